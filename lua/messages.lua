-- What is known of a conversation's messages; in front of the scripts that need it.
--   messages  hash  message id, escaped as in a member's label -> "<state> <member> <listeners> <text>"
--             state  w  waits or is handled
--                    c  waits, may be carried by an earlier turn; text: the message
--                    k  is carried by that member; text: the member of its own ticket
--                    d  done; text: the reply
--             listeners "-", or "<process>.<request>," of each who waits for the reply
--   expiries  zset  message id -> when it may be forgotten
-- Texts may hold any byte, zeros too: they are joined, as string.format ends at a zero.
-- A record counts as long as its member, or its own ticket, lives: the message of a dead one is
-- to be handled again.
local RECORD = '^(%a) (%S+) (%S+) (.*)$'

local function record(messages, id)
  return string.match(redis.call('HGET', messages, id) or '', RECORD)
end

local function lives(holder, queue, waiters, member, now)
  local serving, lease = string.match(redis.call('GET', holder) or '', '^%d+ %d+ (%S+) (%d+)')
  if serving == member then return tonumber(lease) > now end
  if not redis.call('ZSCORE', queue, member) then return false end
  local process = string.match(member, '^%w+')
  local alive = string.match(redis.call('HGET', waiters, process) or '', '^%d+')
  return alive and tonumber(alive) > now
end

local function had(holder, queue, waiters, state, owner, text, now)
  return state and (lives(holder, queue, waiters, owner, now)
    or state == 'k' and lives(holder, queue, waiters, text, now))
end

-- Keep a record for a window, and forget some of those whose window is over.
local function keep(messages, expiries, id, text, window, now)
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, 16)) do
    redis.call('HDEL', messages, old)
    redis.call('ZREM', expiries, old)
  end
  redis.call('HSET', messages, id, text)
  redis.call('ZADD', expiries, string.format('%.0f', now + window), id)
  redis.call('PEXPIRE', messages, window)
  redis.call('PEXPIRE', expiries, window)
end
