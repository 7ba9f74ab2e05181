-- Shared by every script that can end a turn; the loader puts it in front of them.
-- State of one conversation, all keys in one hash slot:
--   counter  string  the last ticket number issued
--   holder   string  "<fence>" when idle, else
--                    "<fence> <number> <member> <lease until> <hold until> <granted at> <host:pid>"
--   queue    zset    ticket number -> member; member is "<process>.<request>[.<label>]"
--   waiters  hash    process -> "<alive until> <host:pid>", number -> "<since> <hold ms>",
--                    "stop" -> "<number> <mode>": turns before that ticket are asked to stop
-- Times are milliseconds of this server's clock. An idle holder means an empty queue.
local HOLDER = '^(%d+) (%d+) (%S+) (%d+) (%d+) (%d+) (%S+)$'
local MAX_DEAD_HEADS = 64  -- more are left to the next call: no script runs long

local ms, us  -- the time of this call: several operations may share it
local function clock()
  if not ms then
    local t = redis.call('TIME')
    ms, us = t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000000 + t[2]
  end
  return ms, us
end

local function whole(number) return string.format('%.0f', number) end

-- The turn that a holder tells of: fence, number, member, lease until, hold until, granted at,
-- host:pid; the fence alone when it is idle, false when there is none.
local function turn(held)
  if not held or not string.find(held, ' ', 1, true) then return held end
  return string.match(held, HOLDER)
end

-- Grant the head of the queue, skipping the dead, and ring the bell of its process.
-- Returns the bell's text instead of ringing when the process is `caller`, else false;
-- and true behind it when it gave up at the limit with more in the queue.
local function grant_next(holder, queue, waiters, fence, bell, caller, lease_ms, idle_ms)
  local now, micros
  for _ = 1, MAX_DEAD_HEADS do
    local head = redis.call('ZPOPMIN', queue)
    if not head[1] then
      redis.call('SET', holder, fence, 'PX', idle_ms)
      return false
    end
    if not now then now, micros = clock() end
    local process, request = string.match(head[1], '^(%w+)%.(%d+)')
    local seen = redis.call('HMGET', waiters, process, head[2], 'stop')
    redis.call('HDEL', waiters, head[2])
    local alive, where = string.match(seen[1] or '', '^(%d+) (%S+)$')
    if alive and tonumber(alive) > now then
      local hold = now + tonumber(string.match(seen[2] or '', ' (%d+)$') or lease_ms)
      -- Until the grantee's next heartbeat it holds no longer than it is known to live.
      local lease = math.min(math.max(tonumber(alive), now + 1500), now + lease_ms, hold)
      if request == '0' then  -- a bare ticket: nobody renews it, it lives its lifetime
        lease = hold
        redis.call('HDEL', waiters, process)
      end
      fence = string.format('%.0f', math.max(tonumber(fence) + 1, micros))
      redis.call('SET', holder, string.format('%s %s %s %.0f %.0f %.0f %s',
        fence, head[2], head[1], lease, hold, now, where), 'PX', idle_ms)
      local text = string.format('grant %s %s %s %.0f', request, head[2], fence, lease)
      local stop, mode = string.match(seen[3] or '', '^(%d+) (%a+)$')
      if stop and tonumber(stop) > tonumber(head[2]) then text = text .. ' ' .. mode end
      if process == caller then return text end
      redis.call('PUBLISH', bell .. process, text)
      return false
    end
  end
  redis.call('SET', holder, fence .. ' 0 - 0 0 0 -', 'PX', idle_ms)
  return false, true
end
