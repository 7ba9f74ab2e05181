-- Read events of a conversation, after claiming it if a fence is given.
-- A conversation is one hash, so that it expires, is evicted and is moved as a whole:
--   fence, owner  the highest claim           sequence  events it has ever had
--   first         number of its first event   session   number at which the latest session starts
--   latest        greatest timestamp          <number>  that event's JSON
--   mark          a text for later turns, if one was stored: not an event
--   born          ms at which the hash was made: tells it from one that was deleted
-- and for the outbox, while events wait to be published (then it does not expire):
--   outbox        number of the first of them relay     that has taken it
--   outbox_since  ms: when it began to wait   outbox_at ms: from then on free to be taken
--   listing       only in a cluster: counts how often its entry in the index was given up
-- KEYS  1 conversation  2 the same conversation's value in the documented format (not in a
--       cluster, where it is in another slot)
-- ARGV  1 fence ("": do not claim)  2 owner  3 "session", "all" or the number to read from
--       4 expiry ms (0: never)
-- Returns {"events", sequence, born, mark, event, ...} the mark only to a claim, else '' | {"stale", stored fence}
--       | {"beside", ...} the same, and there is a value in the documented format too
--       | {"look"} there may be a value in the documented format: carry it over, then call again
local key, fence, owner, from = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local head = redis.call('HMGET', key, 'sequence', 'first', 'session', 'fence', 'owner', 'outbox',
  'born')
local sequence, born = head[1], head[7]
local kind = 'events'
if sequence and KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then kind = 'beside' end
if not sequence then
  if not KEYS[2] or redis.call('EXISTS', KEYS[2]) == 1 then return {'look'} end
  if fence == '' then return {'events', '0', '0', ''} end
  sequence, head[2], head[3], head[4], head[5] = '0', '0', '0', '0', ''
  local t = redis.call('TIME')
  born = t[1] .. string.format('%03d', math.floor(t[2] / 1000))
  redis.call('HSET', key, 'sequence', 0, 'first', 0, 'session', 0, 'born', born)
end

if fence ~= '' then
  -- Compared as text: a fence has up to 63 bits, a Lua number only 53.
  local held = head[4]
  local newer = #fence > #held or #fence == #held and fence > held
  if not newer and not (fence == held and owner == head[5]) then return {'stale', held} end
  redis.call('HSET', key, 'fence', fence, 'owner', owner)
  if head[6] or ARGV[4] == '0' then redis.call('PERSIST', key)
  else redis.call('PEXPIRE', key, ARGV[4]) end
end

local first = tonumber(head[2])
if from == 'session' then from = tonumber(head[3])
elseif from == 'all' then from = first
else from = math.max(first, tonumber(from)) end
local mark = fence ~= '' and redis.call('HGET', key, 'mark') or ''
local out = {kind, sequence, born or '0', mark}
while from < tonumber(sequence) do
  local numbers = {}
  for number = from, math.min(from + 500, sequence) - 1 do numbers[#numbers + 1] = number end
  for _, event in ipairs(redis.call('HMGET', key, unpack(numbers))) do out[#out + 1] = event end
  from = from + #numbers
end
return out
