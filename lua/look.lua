-- Find the conversations of the index that are due, and leave them to the caller for a while.
-- KEYS  1 index  2 counts of what is submitted and not finished: messages, bytes
-- ARGV  1 most conversations  2 ms for which other processes leave them  3 messages more than at
--       the last call  4 bytes more  5 ms ahead beyond which the clock was set back since: due too
-- Returns {how many more are due, messages, bytes, conversation, its mark, ...} the longest due
--         first; list.lua takes the mark
--@ keeping
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {}
first_write(KEYS[2])  -- what waits is handled on a server without memory too: that frees some
if tonumber(ARGV[1]) > 0 then
  -- Half a microsecond tells the mark from those of list.lua.
  local mark = string.format('%.4f', t[1] * 1000 + t[2] / 1000 + ARGV[2] + 0.0005)
  local function find(from, to)
    local left = ARGV[1] - #found / 2
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], from, to, 'LIMIT', 0, left)) do
      redis.call('ZADD', KEYS[1], mark, name)
      found[#found + 1], found[#found + 2] = name, redis.call('ZSCORE', KEYS[1], name)
    end
  end
  find('-inf', now)
  find(now + ARGV[5], '+inf')
end
local messages, bytes = 0, 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])  -- nothing is there: what was counted and lost is forgotten
else
  messages = redis.call('HINCRBY', KEYS[2], 'messages', ARGV[3])
  bytes = redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[4])
  redis.call('PEXPIRE', KEYS[2], 86400000)
end
return {redis.call('ZCOUNT', KEYS[1], '-inf', now), messages, bytes, unpack(found)}
