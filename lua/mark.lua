-- Leave a text for the next turn of the conversation, and find that of the turn before.
-- KEYS  1 the mark, a key of its own: turns do not depend on it
-- ARGV  1 mark  2 idle expiry ms
-- Returns the mark of the turn before, or nil
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'GET')
