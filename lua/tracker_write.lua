-- Append events to a conversation, or make them its whole history. tracker_read.lua has the fields.
-- Repeating it is harmless: a second append finds the sequence beyond the one it expects.
-- KEYS  1 conversation  2 its value in the documented format  3 the outbox's index, if the
--       events are to be published  (2 and 3 not in a cluster)
-- ARGV  1 fence  2 owner that must hold the conversation (owner "": no matter who does)
--       3 "append" or "replace"  4 sequence expected at most  5 place of the last session start
--       among the events (-1: none)  6 their greatest timestamp  7 expiry ms (0: never)
--       8 now, ms, if they are to be published (0: they are not)  9 conversation id
--       10 the listing it is in the index for, in a cluster
--       11 "=" and the mark to store ("": leave the stored one)
--       12 the events' JSON, a line each: servers bound the arguments of a request, some at 3,999
-- Returns {"done", sequence} | {"ahead", sequence} more events than expected are stored
--       | {"stale", stored fence} | {"waiting"} what a replacement would drop is not published
--       | {"list", listing} put it into the index first | {"look"} as tracker_read.lua
local key, fence, owner, place = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])
local replace, events = ARGV[3] == 'replace', {}
for text in string.gmatch(ARGV[12], '[^\n]+') do events[#events + 1] = text end
local count = #events
local head = redis.call('HMGET', key, 'sequence', 'first', 'session', 'fence', 'owner', 'latest',
  'outbox', 'born', 'listing', 'outbox_at')
if owner ~= '' and (head[4] ~= fence or head[5] ~= owner) then
  return {'stale', head[4] or '0'}
end
if not head[1] then
  if not KEYS[2] or redis.call('EXISTS', KEYS[2]) == 1 then return {'look'} end
  head = {'0', '0', '0', '0', '', false, false, false, false}
end

local sequence, first, session, latest = tonumber(head[1]), head[2], head[3], head[6]
local waits, born, now = head[7], head[8], tonumber(ARGV[8])
local begins = not waits and now > 0 and count > 0
-- In the index it is while something waits; if no relay comes for long, the entry may expire.
local lists = begins or waits and now - head[10] > 60000
if replace and waits then return {'waiting'} end
if not replace and sequence > tonumber(ARGV[4]) then return {'ahead', head[1]} end
if lists and not KEYS[3] then
  local listing = (born or '') .. ':' .. (head[9] or 0)
  if ARGV[10] ~= listing then return {'list', listing} end
end
if not born then
  local t = redis.call('TIME')
  born = t[1] .. string.format('%03d', math.floor(t[2] / 1000))
end

local mark = ARGV[11] ~= '' and string.sub(ARGV[11], 2)
if replace then
  mark = mark or redis.call('HGET', key, 'mark')
  redis.call('DEL', key)
  first, session, latest = sequence, sequence, false
  if head[9] then redis.call('HSET', key, 'listing', head[9]) end
end
for i, text in ipairs(events) do redis.call('HSET', key, sequence + i - 1, text) end
if place >= 0 then session = sequence + place end
if count > 0 and (not latest or tonumber(latest) < tonumber(ARGV[6])) then latest = ARGV[6] end
if begins then
  redis.call('HSET', key, 'outbox', string.format('%.0f', sequence), 'relay', '',
    'outbox_since', ARGV[8], 'outbox_at', ARGV[8])
end
if lists and KEYS[3] then redis.call('ZADD', KEYS[3], ARGV[8], ARGV[9]) end
sequence = string.format('%.0f', sequence + count)
redis.call('HSET', key, 'sequence', sequence, 'first', first, 'session', session,
  'fence', head[4], 'owner', head[5], 'born', born)
if latest then redis.call('HSET', key, 'latest', latest) end
if mark then redis.call('HSET', key, 'mark', mark) end
if waits or begins or ARGV[7] == '0' then redis.call('PERSIST', key)
else redis.call('PEXPIRE', key, ARGV[7]) end
return {'done', sequence}
