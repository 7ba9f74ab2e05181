-- Remove a dead letter of a message.
-- KEYS  1 dead letters
-- ARGV  1 message id
-- Returns 1 removed | 0 there is none
return redis.call('HDEL', KEYS[1], ARGV[1])
