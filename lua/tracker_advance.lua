-- Note what a relay has published; the last of it lets the conversation go.
-- Repeating it is harmless: a second call finds the number moved on already.
-- KEYS  1 conversation  2 the outbox's index (not in a cluster)
-- ARGV  1 relay  2 born, which the events were read with  3 number that they began with
--       4 number of the first event that is not published  5 end of the relay's lease
--       6 expiry ms (0: never)  7 conversation id
-- Returns 1 more waits | 0 nothing does, and its listing is given up | -1 it is not the relay's
local key, index = KEYS[1], KEYS[2]
local head = redis.call('HMGET', key, 'relay', 'born', 'outbox', 'sequence')
if head[1] ~= ARGV[1] or head[2] ~= ARGV[2] then return -1 end
if head[3] ~= ARGV[3] and head[3] ~= ARGV[4] then return -1 end
if tonumber(ARGV[4]) < tonumber(head[4]) then
  redis.call('HSET', key, 'outbox', ARGV[4], 'outbox_at', ARGV[5])
  if index then redis.call('ZADD', index, ARGV[5], ARGV[7]) end
  return 1
end
redis.call('HDEL', key, 'outbox', 'outbox_since', 'outbox_at', 'relay')
if index then redis.call('ZREM', index, ARGV[7])
else redis.call('HINCRBY', key, 'listing', 1) end
if ARGV[6] ~= '0' then redis.call('PEXPIRE', key, ARGV[6]) end
return 0
