-- Find conversations of which messages are due, the longest due first, and leave each to the caller
-- for a while.
-- KEYS  1 later
-- ARGV  1 most conversations  2 ms for which other processes leave them
-- Returns {ms until the next comes due; -1: none does, conversation, its mark, ...}
--@ later
local now, found = now_ms(), {}
-- A fraction tells a mark from the time of a message.
local mark = string.format('%.1f', now + ARGV[2] + 0.5)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], mark, name)
  found[#found + 1], found[#found + 2] = name, mark
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {next and math.ceil(math.max(0, next - now)) or -1, unpack(found)}
