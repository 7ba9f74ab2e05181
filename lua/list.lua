-- Put a conversation into the index, before its script stores a message. For a cluster, where the
-- two are in different slots; also to take it out again, unless it was put there anew.
-- KEYS  1 index
-- ARGV  1 conversation  2 ms after which to look at it; "-": take it out  3 taking out: the mark
--       that it had when it was found; "<": look at it no later than it is listed for
--       4 if those who serve are to hear of it: the sharded channel in the slot of the index, which
--       stays on its node  5 the channel that all nodes repeat, rung if nothing hears the first
--       6 the bell: the key of its holder
-- Returns 1 done | 0 it was put there anew, or is gone
if ARGV[2] == '-' then
  if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
-- Microseconds tell this entry from any other.
local t = redis.call('TIME')
local at = t[1] * 1000 + t[2] / 1000 + ARGV[2]
if ARGV[3] == '<' then
  at = math.min(at, (redis.call('ZSCORE', KEYS[1], ARGV[1]) or at) - 0.001)
end
redis.call('ZADD', KEYS[1], string.format('%.3f', at), ARGV[1])
if ARGV[4] then
  local heard = redis.pcall('SPUBLISH', ARGV[4], ARGV[6])
  if type(heard) ~= 'number' or heard == 0 then redis.call('PUBLISH', ARGV[5], ARGV[6]) end
end
return 1
