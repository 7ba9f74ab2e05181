-- Let a relay have a conversation for a while, and read what waits to be published.
-- tracker_read.lua has the fields.
-- KEYS  1 conversation  2 the outbox's index (not in a cluster)
-- ARGV  1 relay  2 now, ms  3 end of its lease  4 an end of another's after this is void
--       5 events at most  6 bytes of JSON at most, but one event at least  7 conversation id
-- Returns {"taken", born, number of the first event, sequence, event, ...}
--       | {"held"} another relay has it | {"none"} nothing waits, and its listing is given up
local key, relay, index = KEYS[1], ARGV[1], KEYS[2]
local head = redis.call('HMGET', key, 'sequence', 'outbox', 'outbox_at', 'relay', 'born')
if not head[2] then
  if index then redis.call('ZREM', index, ARGV[7])
  elseif head[1] then redis.call('HINCRBY', key, 'listing', 1) end
  return {'none'}
end
local at = tonumber(head[3])
if head[4] ~= relay and tonumber(ARGV[2]) < at and at <= tonumber(ARGV[4]) then return {'held'} end

redis.call('HSET', key, 'relay', relay, 'outbox_at', ARGV[3])
if index then redis.call('ZADD', index, ARGV[3], ARGV[7]) end
local out, bytes, first = {'taken', head[5], head[2], head[1]}, 0, tonumber(head[2])
-- One by one: a page of events of the greatest size would not fit anywhere.
for number = first, math.min(first + ARGV[5], head[1]) - 1 do
  local event = redis.call('HGET', key, number)
  bytes = bytes + #event
  if number > first and bytes > tonumber(ARGV[6]) then break end
  out[#out + 1] = event
end
return out
