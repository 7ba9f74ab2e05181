-- The conversations of an index, those that are due first.
-- KEYS  1 index
-- ARGV  1 most conversations
-- Returns {now, how many there are, conversation, its mark, ...}
local t = redis.call('TIME')
return {t[1] * 1000 + math.floor(t[2] / 1000), redis.call('ZCARD', KEYS[1]),
  unpack(redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES'))}
