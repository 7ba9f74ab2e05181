-- Issue a ticket, and grant it at once when the conversation is free.
-- Repeating it with the same member is harmless: it finds what the first call did.
-- KEYS  1 counter  2 holder  3 queue  4 waiters
-- ARGV  1 member  2 where  3 number to return to (0: a new one)  4 lease ms
--       5 waiter ttl ms  6 hold ms  7 idle expiry ms  8 most waiting (-1: any)  9 fence floor
--       10 bell channel prefix
-- Returns {1, number, fence, lease ms} granted
--       | {0, number, now, holder's lease ms, turns before it} waiting
--       | {-1, waiting} the queue is full
--@ holder
local now, micros = clock()
local fence, number, member, lease, hold, since = turn(KEYS[2])
local mine, waits, queued, waiting, lasts
local returns = ARGV[3] ~= '0'
if not fence and redis.call('EXISTS', KEYS[3]) == 1 then  -- its record is gone: no ticket overtakes
  fence, number, member, lease, hold, since = '0', '0', '-', '0', '0', '0'
end
if member or returns then
  if member and tonumber(lease) <= now then
    --@ returning
    -- The holder let its lease run out: first those who wait, then we.
    return_ticket(KEYS[2], KEYS[3], KEYS[4], ARGV[4], ARGV[7])
    if member == ARGV[1] and ARGV[9] == '0' then
      wait_on(KEYS[3], KEYS[4], number, member, hold, since, whole(now + ARGV[5]) .. ' ' .. ARGV[2])
    end
    grant_next(KEYS[2], KEYS[3], KEYS[4], fence, ARGV[10], '', ARGV[4], ARGV[7])
    fence, number, member, lease, hold, since = turn(KEYS[2])
  end
  mine = member == ARGV[1]
  waits = member and not mine
  lasts = waits and has_message(KEYS[1])
  queued = waits and redis.call('ZSCORE', KEYS[3], ARGV[1])
  if waits and not queued and ARGV[8] ~= '-1' then
    waiting = redis.call('ZCARD', KEYS[3])
    if waiting >= tonumber(ARGV[8]) then return {-1, waiting} end
  end
  returns = returns and not mine and not queued
  if mine or queued or returns then
    redis.call('HDEL', KEYS[4], '')  -- a server without memory refuses new tickets alone: keeping.lua
  end
  if returns then
    if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[3]) then
      redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
    end
    -- Its number may have been issued anew, where the counter was lost.
    returns = redis.call('ZCOUNT', KEYS[3], ARGV[3], ARGV[3]) == 0 and number ~= ARGV[3]
  end
end
if not mine and ARGV[9] ~= '0' and string.find(ARGV[1], '.!', 1, true) then
  return {-1, 0}  -- the turn of a submitted message was lost: it has no ticket but its own
end
if queued then
  number = queued
elseif returns then
  number = ARGV[3]
elseif not mine then
  number = redis.call('INCR', KEYS[1])
end
if not mine and not lasts then redis.call('PEXPIRE', KEYS[1], ARGV[7]) end

if not waits then
  if not mine then hold, since = whole(now + ARGV[6]), whole(now) end
  if not mine or tonumber(fence) <= tonumber(ARGV[9]) then
    fence = whole(math.max(tonumber(fence or 0) + 1, ARGV[9] + 1, micros))
  end
  lease = math.min(now + ARGV[4], hold)
  keep_turn(KEYS[2], holder_record(fence, number, ARGV[1], lease, hold, since, ARGV[2]), ARGV[1],
    ARGV[7])
  return {1, tonumber(number), tonumber(fence), lease - now}
end

local process, alive = string.match(ARGV[1], '^%w+'), whole(now + ARGV[5]) .. ' ' .. ARGV[2]
if queued then
  redis.call('HSET', KEYS[4], process, alive)
else
  redis.call('ZADD', KEYS[3], number, ARGV[1])
  redis.call('HSET', KEYS[4], process, alive, number, whole(now) .. ' ' .. ARGV[6])
end
local ahead = waiting and waiting + 1 or redis.call('ZCARD', KEYS[3])
-- Behind messages, which have no heartbeat, it is not the first, but nothing may be awaited yet.
if not queued and (ahead == 1 or lasts and redis.call('HEXISTS', KEYS[4], 'heard') == 0) then
  redis.call('HSET', KEYS[4], 'heard', awaited(now, ARGV[5]))
end
if not lasts then
  for _, key in ipairs({KEYS[3], KEYS[4]}) do redis.call('PEXPIRE', key, ARGV[7]) end
end
return {0, tonumber(number), now, math.max(0, tonumber(lease) - now), ahead}
