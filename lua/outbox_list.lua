-- Put a conversation into the outbox's index, before its script notes that something waits.
-- For a cluster, where the two are in different slots.
-- KEYS  1 index  2 marks
-- ARGV  1 conversation id  2 now, ms  3 a mark that no other call gives
-- Returns 1
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
