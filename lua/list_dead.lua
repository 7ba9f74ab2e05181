-- Put a conversation into the index of those with dead letters, before its script stores one: the
-- two may be in different slots. letters.lua reads what is there.
-- KEYS  1 index: conversation -> when it was put there
-- ARGV  1 conversation  2 ms for which dead letters are kept; "-": take it out
-- Returns 1 done | 0 it was not there, to be taken out
if ARGV[2] == '-' then return redis.call('ZREM', KEYS[1], ARGV[1]) end
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now - ARGV[2]))
redis.call('ZADD', KEYS[1], string.format('%.3f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
