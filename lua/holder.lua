-- The state of one conversation, and how its holder is read.
-- A line of a script that begins with --@ names others whose functions stand in its place.
-- All keys are in one hash slot:
--   counter  string  the last ticket number issued
--   holder   string  "<fence>" when idle, else
--                    "<fence> <number> <member> <lease until> <hold until> <granted at> <where>"
--   queue    zset    ticket number -> member
--   waiters  hash    process -> "<alive until> <where>", ticket number -> "<since> <hold ms>",
--                    "stop" -> "<number> <mode>": turns before that ticket are asked to stop,
--                    "heard" -> until when the next heartbeat of any of them has to come,
--                    "grace" -> until when the head of the queue is waited for
--   member   "<process>.<request>-<secret>[~<tag>][.<label>]"; the secret signs the bells of its
--            process, the tag is that of its channel on this node of a cluster, if it has one
--   where    "<host:pid>,<protocol>,<longest lease ms of that process>"
-- Version 1 (0.1.0) writes members without a secret, and "<host:pid>" alone.
-- Times are milliseconds of this server's clock. An idle holder means an empty queue.
local HOLDER = '^(%d+) (%d+) (%S+) (%d+) (%d+) (%d+) ([^%s,]+,?%d*,?(%d*))$'
local MEMBER = '^(%w+)%.(%d+)%-?(%w*)~?(%w*)'

local ms, us  -- the time of this call: several operations may share it
local function clock()
  if not ms then
    local t = redis.call('TIME')
    ms, us = t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000000 + t[2]
  end
  return ms, us
end

local function whole(number) return string.format('%.0f', number) end

-- When a next heartbeat has to be here: two of a process are 0.4 of a waiter's life apart at most.
local function awaited(now, waiter_ttl) return whole(now + 0.6 * waiter_ttl) end

-- The holder's record as text, written here and nowhere else; all but `lease` are texts already.
local function holder_record(fence, number, member, lease, hold, since, where)
  return fence .. ' ' .. number .. ' ' .. member .. ' ' .. whole(lease) .. ' ' .. hold .. ' '
    .. since .. ' ' .. where
end

-- Store the record of a turn that goes on. That of a submitted message does not expire: inbox.lua.
local function keep_turn(holder, text, member, idle_ms)
  if string.find(member, '.!', 1, true) then redis.call('SET', holder, text)
  else redis.call('SET', holder, text, 'PX', idle_ms) end
end

-- Whether the conversation has a submitted message: then its counter, and no other of its keys but
-- the holder's record of another ticket, has an expiry. See inbox.lua.
local function has_message(counter) return redis.call('PTTL', counter) == -1 end

-- The fields of the holder's record: fence, number, member, lease until, hold until, granted at,
-- where; the fence alone when it is idle, false when there is none.
local function turn(holder)
  local held = redis.call('GET', holder)
  if not held or not string.find(held, ' ', 1, true) then return held end
  local fence, number, member, lease, hold, since, where, longest = string.match(held, HOLDER)
  if longest ~= '' and lease - longest > clock() then
    -- No lease is that long: the clock was set back. It counts from now.
    lease = whole(ms + longest)
    redis.call('SET', holder,
      holder_record(fence, number, member, lease, hold, since, where), 'KEEPTTL')
  end
  return fence, number, member, lease, hold, since, where
end
