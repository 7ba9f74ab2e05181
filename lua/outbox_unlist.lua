-- Take a conversation out of the outbox's index, if it was not put there again since the mark
-- was read, which was before nothing was found to wait. For a cluster, as outbox_list.lua.
-- KEYS  1 index  2 marks
-- ARGV  1 conversation id  2 the mark ("": it had none)
-- Returns 1 removed | 0 it was put there again, or is gone
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
