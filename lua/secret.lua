-- A secret that all replicas share: the first one that is offered.
-- KEYS  1 the secret
-- ARGV  1 the caller's
-- Returns the one that counts
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
