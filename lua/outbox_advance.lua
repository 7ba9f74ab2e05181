-- Note what a relay has published; the last of a conversation lets it go.
-- Repeating it is harmless: a second call finds the number moved on already.
-- KEYS  1... conversations, then the outbox's index (not in a cluster: there is one conversation)
-- ARGV  1 relay  2 end of its lease  3 expiry ms (0: never), then of each conversation
--       its id, born, which the events were read with, number that they began with, and number
--       of the first event that is not published
-- Returns of each 1 more waits | 0 nothing does, and its listing is given up
--       | -1 it is not the relay's
local count = (#ARGV - 3) / 4
local index = KEYS[count + 1]

local function advance(key, id, born, first, to)
  local head = redis.call('HMGET', key, 'relay', 'born', 'outbox', 'sequence')
  if head[1] ~= ARGV[1] or head[2] ~= born then return -1 end
  if head[3] ~= first and head[3] ~= to then return -1 end
  if tonumber(to) < tonumber(head[4]) then
    redis.call('HSET', key, 'outbox', to, 'outbox_at', ARGV[2])
    if index then redis.call('ZADD', index, ARGV[2], id) end
    return 1
  end
  redis.call('HDEL', key, 'outbox', 'outbox_since', 'outbox_at', 'relay')
  if index then redis.call('ZREM', index, id)
  else redis.call('HINCRBY', key, 'listing', 1) end
  if ARGV[3] ~= '0' then redis.call('PEXPIRE', key, ARGV[3]) end
  return 0
end

local answers = {}
for i = 1, count do
  local at = 4 * i
  answers[i] = advance(KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
end
return answers
