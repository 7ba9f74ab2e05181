-- Accept a write to a register, unless one under a higher fence was accepted.
-- KEYS  1 the register
-- ARGV  1 fence  2 expiry ms
-- Returns the number of writes that were accepted before | -1 refused
local highest = tonumber(redis.call('HGET', KEYS[1], 'fence') or 0)
if tonumber(ARGV[1]) < highest then return -1 end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[1], 'writes', 1) - 1
