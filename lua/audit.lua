-- What operators have done, for their page: note it, and read the last of it.
-- KEYS  1 sorted set: what was done -> when, ms
-- ARGV  1 what was done; '': nothing to note  2 most that are kept  3 milliseconds for which
--       they are kept  4 most that are read
-- Returns {now, then of each, the latest last: what was done, when}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  local over = redis.call('ZCARD', KEYS[1]) - ARGV[2]
  if over > 0 then redis.call('ZPOPMIN', KEYS[1], over) end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local out = redis.call('ZRANGE', KEYS[1], -ARGV[4], -1, 'WITHSCORES')
table.insert(out, 1, now)
return out
