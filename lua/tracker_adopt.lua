-- Begin a conversation with the events it had in the documented format. tracker_read.lua has
-- the fields. A conversation that is there already is left as it is.
-- KEYS  1 conversation
-- ARGV  1 number of the event at which the latest session starts  2 greatest timestamp ("": none)
--       3 expiry ms (0: never)  4 the events' JSON, a line each, as in tracker_write.lua
-- Returns 1 begun | 0 it was there
local key = KEYS[1]
if redis.call('EXISTS', key) == 1 then return 0 end
local t, count = redis.call('TIME'), 0
for text in string.gmatch(ARGV[4], '[^\n]+') do
  redis.call('HSET', key, count, text)
  count = count + 1
end
redis.call('HSET', key, 'sequence', count, 'first', 0, 'session', ARGV[1],
  'fence', 0, 'owner', '', 'born', t[1] .. string.format('%03d', math.floor(t[2] / 1000)))
if ARGV[2] ~= '' then redis.call('HSET', key, 'latest', ARGV[2]) end
if ARGV[3] ~= '0' then redis.call('PEXPIRE', key, ARGV[3]) end
return 1
