-- Issue a ticket, and grant it at once when the conversation is free.
-- Repeating it with the same member is harmless: it finds what the first call did.
-- KEYS  1 counter  2 holder  3 queue  4 waiters
-- ARGV  1 member  2 host:pid  3 number to return to (0: a new one)  4 lease ms
--       5 waiter ttl ms  6 hold ms  7 idle expiry ms  8 most waiting (-1: any)  9 fence floor
-- Returns {1, number, fence, lease ms} granted | {0, number, now, holder's lease ms} waiting
--       | {-1, waiting} the queue is full
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held = redis.call('GET', KEYS[2])
local fence, number, member, lease, hold, since =
  string.match(held or '', '^(%d+) ?(%d*) ?(%S*) ?(%d*) ?(%d*) ?(%d*)')
local mine = member == ARGV[1] and tonumber(lease) > now

if mine or not held or member == '' then
  if not mine then
    number, hold, since = ARGV[3], now + ARGV[6], now
    if number == '0' then number = redis.call('INCR', KEYS[1])
    elseif tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(number) then
      redis.call('SET', KEYS[1], number)
    end
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
  end
  if not mine or tonumber(fence) <= tonumber(ARGV[9]) then
    fence = math.max(tonumber(fence or 0) + 1, ARGV[9] + 1, t[1] * 1000000 + t[2])
  end
  lease = math.min(now + ARGV[4], hold)
  redis.call('SET', KEYS[2], string.format('%.0f %s %s %.0f %.0f %.0f %s',
    fence, number, ARGV[1], lease, hold, since, ARGV[2]), 'PX', ARGV[7])
  return {1, tonumber(number), tonumber(fence), lease - now}
end

local queued = redis.call('ZSCORE', KEYS[3], ARGV[1])
number = queued or ARGV[3]
if not queued and ARGV[8] ~= '-1' then
  local waiting = redis.call('ZCARD', KEYS[3])
  if waiting >= tonumber(ARGV[8]) then return {-1, waiting} end
end
if number == '0' then number = redis.call('INCR', KEYS[1])
elseif tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(number) then
  redis.call('SET', KEYS[1], number)
end
local process = string.match(ARGV[1], '^%w+')
redis.call('HSET', KEYS[4], process, string.format('%.0f %s', now + ARGV[5], ARGV[2]))
if not queued then
  redis.call('ZADD', KEYS[3], number, ARGV[1])
  redis.call('HSET', KEYS[4], number, string.format('%.0f %s', now, ARGV[6]))
end
for i = 1, 4 do if i ~= 2 then redis.call('PEXPIRE', KEYS[i], ARGV[7]) end end
return {0, tonumber(number), now, math.max(0, tonumber(lease) - now)}
