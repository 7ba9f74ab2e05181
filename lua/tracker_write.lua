-- Append events to a conversation, or make them its whole history. tracker_read.lua has the fields.
-- Repeating it is harmless: a second append finds the sequence beyond the one it expects.
-- KEYS  1 conversation  2 its value in the documented format (not in a cluster)
-- ARGV  1 fence  2 owner that must hold the conversation (owner "": no matter who does)
--       3 "append" or "replace"  4 sequence expected at most  5 place of the last session start
--       among the events (-1: none)  6 their greatest timestamp  7 expiry ms (0: never)
--       8... the events' JSON
-- Returns {"done", sequence} | {"ahead", sequence} more events than expected are stored
--       | {"stale", stored fence} | {"look"} as tracker_read.lua
local key, fence, owner, place = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])
local count = #ARGV - 7
local head = redis.call('HMGET', key, 'sequence', 'first', 'session', 'fence', 'owner', 'latest')
if owner ~= '' and (head[4] ~= fence or head[5] ~= owner) then
  return {'stale', head[4] or '0'}
end
if not head[1] then
  if not KEYS[2] or redis.call('EXISTS', KEYS[2]) == 1 then return {'look'} end
  head = {'0', '0', '0', '0', '', false}
end

local sequence, first, session, latest = tonumber(head[1]), head[2], head[3], head[6]
if ARGV[3] == 'replace' then
  redis.call('DEL', key)
  first, session, latest = sequence, sequence, false
elseif sequence > tonumber(ARGV[4]) then
  return {'ahead', head[1]}
end
for i = 1, count do redis.call('HSET', key, sequence + i - 1, ARGV[7 + i]) end
if place >= 0 then session = sequence + place end
if count > 0 and (not latest or tonumber(latest) < tonumber(ARGV[6])) then latest = ARGV[6] end
sequence = string.format('%.0f', sequence + count)
redis.call('HSET', key, 'sequence', sequence, 'first', first, 'session', session,
  'fence', head[4], 'owner', head[5])
if latest then redis.call('HSET', key, 'latest', latest) end
if ARGV[7] == '0' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ARGV[7]) end
return {'done', sequence}
