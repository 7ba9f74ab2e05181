-- Messages that come due later: they are outside their conversations' slots. All keys of a shard
-- share a hash tag.
--   later     zset  conversation, escaped -> ms at which its first message comes due, or with a
--                   fraction: until when one process moves what is due there
--   due       zset  of each conversation: name, escaped -> ms at which the message comes due
--   messages  hash  "<conversation> <name>" -> "<message id> <mode> <window ms> <most waiting>
--                   <seconds of a turn> <text>"
--                   "!<conversation> <name>" -> id of the message that is being submitted, or was
--   counts    hash  "messages" and "bytes" of the shard
-- Times are of this server's clock.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function message_id(record) return record and string.match(record, '^%S+') end

-- Remove a message, and count what that frees.
local function remove(keys, conversation, name, record)
  local entry = conversation .. ' ' .. name
  redis.call('ZREM', keys.due, name)
  redis.call('HDEL', keys.messages, entry, '!' .. entry)
  redis.call('HINCRBY', keys.counts, 'bytes', -#record)
  if redis.call('HINCRBY', keys.counts, 'messages', -1) <= 0 then redis.call('DEL', keys.counts) end
end

-- List a conversation at the time of its first message, but not before a time.
local function list(keys, conversation, earliest)
  local first = redis.call('ZRANGE', keys.due, 0, 0, 'WITHSCORES')[2]
  if not first then return redis.call('ZREM', keys.later, conversation) end
  local at = string.format('%.0f', math.max(first, earliest))
  return redis.call('ZADD', keys.later, at, conversation)
end
