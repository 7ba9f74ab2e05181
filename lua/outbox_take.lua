-- Let a relay have conversations for a while, and read what waits of each to be published.
-- tracker_read.lua has the fields.
-- KEYS  1... conversations, then the outbox's index (not in a cluster: there is one conversation)
-- ARGV  1 relay  2 now, ms  3 end of its lease  4 an end of another's after this is void
--       5 events at most, of each  6 bytes of JSON at most, but one event of each at least
--       7... conversation ids
-- Returns of each {"taken", born, number of the first event, sequence, event, ...}
--       | {"held"} another relay has it | {"none"} nothing waits, and its listing is given up
local relay, now, index, bytes = ARGV[1], tonumber(ARGV[2]), KEYS[#ARGV - 5], 0

local function take(key, id)
  local head = redis.call('HMGET', key, 'sequence', 'outbox', 'outbox_at', 'relay', 'born')
  if not head[2] then
    if index then redis.call('ZREM', index, id)
    elseif head[1] then redis.call('HINCRBY', key, 'listing', 1) end
    return {'none'}
  end
  local at = tonumber(head[3])
  if head[4] ~= relay and now < at and at <= tonumber(ARGV[4]) then return {'held'} end

  redis.call('HSET', key, 'relay', relay, 'outbox_at', ARGV[3])
  if index then redis.call('ZADD', index, ARGV[3], id) end
  local out, first = {'taken', head[5], head[2], head[1]}, tonumber(head[2])
  -- One by one: a page of events of the greatest size would not fit anywhere.
  for number = first, math.min(first + ARGV[5], head[1]) - 1 do
    local event = redis.call('HGET', key, number)
    bytes = bytes + #event
    if number > first and bytes > tonumber(ARGV[6]) then break end
    out[#out + 1] = event
  end
  return out
end

local answers = {}
for i = 1, #ARGV - 6 do answers[i] = take(KEYS[i], ARGV[i + 6]) end
return answers
