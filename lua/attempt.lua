-- Count an attempt at a message, which is forgotten with the message's id.
-- KEYS  1 the count, a key of its own: what is known of the messages is a matter of the locks
-- ARGV  1 window ms
-- Returns how many attempts there have been, this one included
local attempts = redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return attempts
