-- What is known of a conversation's messages.
--   messages  hash  message id, escaped as in a member's label -> "<state> <member> <listeners> <text>"
--             state  w  waits or is handled
--                    c  waits, may be carried by an earlier turn; text: the message
--                    k  is carried by that member; text: the member of its own ticket
--                    d  done; text: the reply
--             e, x, v  of submitted ones, as in submit.lua: failed, dead, withdrawn; text: why, with
--                    "<attempts> <submitted at> " before it where it failed: it may be sent again
--             listeners "-", or "<process>.<request>-<secret>," of each waiter for the reply
--             " <message id>" -> "<call> <text>": the message of a carried one, and by which call
--   expiries  zset  message id -> when it may be forgotten
-- Texts may hold any byte, zeros too: they are joined, as string.format ends at a zero.
-- A record counts as long as its member, or its own ticket, lives: the message of a dead one is
-- to be handled again.
--@ holder keeping
local RECORD = '^(%a) (%S+) (%S+) (.*)$'
local LATER = 60000  -- ms after which one that is still handled is looked at again

local function record(messages, id)
  return string.match(redis.call('HGET', messages, id) or '', RECORD)
end

-- What a failed message has before its reason: attempts, and when it was submitted first.
local function tried(state, text) return string.match(state == 'e' and text or '', '^(%d+) (%d+) (.*)$') end

-- Whether a reply is still kept: the window of each message is its own.
local function kept(expiries, id, now)
  return tonumber(redis.call('ZSCORE', expiries, id) or 0) > now
end

local function lives(holder, queue, waiters, member, now)
  local _, _, serving, lease = turn(holder)
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

-- Forget some records whose window is over, but none of a message that still waits or is handled.
local function forget_old(holder, queue, waiters, messages, expiries, now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, 16)) do
    local state, owner, _, text = record(messages, id)
    if state and state ~= 'd' and had(holder, queue, waiters, state, owner, text, now) then
      redis.call('ZADD', expiries, whole(now + LATER), id)
    else
      redis.call('HDEL', messages, id, ' ' .. id)
      redis.call('ZREM', expiries, id)
    end
  end
end

-- Keep a record for a window; the keys of all live at least as long, and never shorter than before.
-- They get somewhat more, so that not each record renews them.
local function keep(messages, expiries, id, text, window, now, idle)
  redis.call('HSET', messages, id, text)
  redis.call('ZADD', expiries, whole(now + window), id)
  local longest = math.max(window, idle)
  if redis.call('PTTL', messages) < longest then
    for _, key in ipairs({messages, expiries}) do
      redis.call('PEXPIRE', key, whole(longest * 1.1))
    end
  end
end
