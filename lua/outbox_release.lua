-- Let another relay have a conversation that waits. tracker_read.lua has the fields.
-- KEYS  1 conversation  2 the outbox's index (not in a cluster)
-- ARGV  1 relay that has it  2 now, ms  3 conversation id
-- Returns 1 released | 0 the relay did not have it
if redis.call('HGET', KEYS[1], 'relay') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'relay', '', 'outbox_at', ARGV[2])
if KEYS[2] then redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3]) end
return 1
