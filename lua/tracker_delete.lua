-- Remove a conversation, and with it what waits to be published.
-- KEYS  1 conversation  2 the outbox's index (not in a cluster)
-- ARGV  1 conversation id
-- Returns 1 it had events | 0 it had none
local head = redis.call('HMGET', KEYS[1], 'sequence', 'first')
redis.call('DEL', KEYS[1])
if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[1]) end
return head[1] ~= head[2] and 1 or 0
