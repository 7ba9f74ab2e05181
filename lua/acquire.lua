-- Issue a ticket, and grant it at once when the conversation is free.
-- Repeating it with the same member is harmless: it finds what the first call did.
-- KEYS  1 counter  2 holder  3 queue  4 waiters
-- ARGV  1 member  2 host:pid  3 number to return to (0: a new one)  4 lease ms
--       5 waiter ttl ms  6 hold ms  7 idle expiry ms  8 most waiting (-1: any)  9 fence floor
--       10 bell channel prefix
-- Returns {1, number, fence, lease ms} granted | {0, number, now, holder's lease ms} waiting
--       | {-1, waiting} the queue is full
local now, micros = clock()
local HELD = '^(%d+) ?(%d*) ?(%S*) ?(%d*) ?(%d*) ?(%d*)'
local held = redis.call('GET', KEYS[2])
local fence, number, member, lease, hold, since = string.match(held or '', HELD)
local mine = member == ARGV[1] and tonumber(lease) > now
if held and member ~= '' and tonumber(lease) <= now then
  -- The holder let its lease run out: first those who wait, then we.
  grant_next(KEYS[2], KEYS[3], KEYS[4], fence, ARGV[10], '', ARGV[4], ARGV[7])
  held = redis.call('GET', KEYS[2])
  fence, number, member, lease, hold, since = string.match(held, HELD)
end

local function issue()
  if ARGV[3] == '0' then return redis.call('INCR', KEYS[1]) end
  if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[3]) then
    redis.call('SET', KEYS[1], ARGV[3])
  end
  return ARGV[3]
end

if mine or not held or member == '' then
  if not mine then
    number, hold, since = issue(), now + ARGV[6], now
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
  end
  if not mine or tonumber(fence) <= tonumber(ARGV[9]) then
    fence = math.max(tonumber(fence or 0) + 1, ARGV[9] + 1, micros)
  end
  lease = math.min(now + ARGV[4], hold)
  redis.call('SET', KEYS[2], string.format('%.0f %s %s %.0f %.0f %.0f %s',
    fence, number, ARGV[1], lease, hold, since, ARGV[2]), 'PX', ARGV[7])
  return {1, tonumber(number), tonumber(fence), lease - now}
end

number = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not number then
  local waiting = ARGV[8] ~= '-1' and redis.call('ZCARD', KEYS[3])
  if waiting and waiting >= tonumber(ARGV[8]) then return {-1, waiting} end
  number = issue()
  redis.call('ZADD', KEYS[3], number, ARGV[1])
  redis.call('HSET', KEYS[4], number, string.format('%.0f %s', now, ARGV[6]))
end
local process = string.match(ARGV[1], '^%w+')
redis.call('HSET', KEYS[4], process, string.format('%.0f %s', now + ARGV[5], ARGV[2]))
for _, key in ipairs({KEYS[1], KEYS[3], KEYS[4]}) do redis.call('PEXPIRE', key, ARGV[7]) end
return {0, tonumber(number), now, math.max(0, tonumber(lease) - now)}
