-- Handing a conversation on, for every script that can end a turn.
--@ holder
local MAX_DEAD_HEADS = 64  -- more are left to the next call: no script runs long
local GRACE = 2500  -- ms: for as long, by default, may a living process be silent

-- A submitted message waits as this member and is served as a member with its id behind ".!".
local WAITS, SERVING, SERVED = 'inbox.1-.!', '.!', '%.!(.+)$'

-- Put a submitted message whose turn ends unfinished back at its number. Returns whether it is one.
local function return_message(queue, number, member)
  local id = string.match(member, SERVED)
  if id then redis.call('ZADD', queue, number, WAITS .. id) end
  return id ~= nil
end

-- Leave a conversation to the processes that serve the inbox, and ring their bell if it is named.
-- The keys of a conversation with a submitted message do not expire.
local function leave_vacant(holder, fence, bell)
  redis.call('SET', holder, holder_record(fence, 0, '-', 0, 0, 0, '-'))
  if bell then redis.call('PUBLISH', bell .. 'inbox', holder) end
end

-- Ring the bell of a process. It is signed with the secret of the member that it is about, which
-- neither the channel nor the bell tells. A member of version 1 has none. Returns how many hear it.
-- In a cluster all nodes repeat a PUBLISH, so the process has a sharded channel on each node, in a slot
-- of that node's. Where the slot has moved, or the process has lost its connection, all are rung.
local function ring(bell, process, secret, tag, text)
  if secret ~= '' then text = text .. ' ' .. redis.sha1hex(secret .. text .. secret) end
  if tag ~= '' then
    local heard = redis.pcall('SPUBLISH', bell .. '{' .. tag .. '}' .. process, text)
    if type(heard) == 'number' and heard > 0 then return heard end
  end
  return redis.call('PUBLISH', bell .. process, text)
end

-- Milliseconds for which a head that seems dead is waited for. When no waiting process at all was
-- heard when one had to be, the server or the network stood still: order is kept.
-- Once for each silence: not again before one was heard after the last grace began.
local function grace_left(waiters, now)
  local seen = redis.call('HMGET', waiters, 'heard', 'grace')
  local heard, grace = tonumber(seen[1] or 0), tonumber(seen[2] or 0)
  if heard > 0 and heard <= now and grace - GRACE < heard then
    grace = now + GRACE
    redis.call('HSET', waiters, 'grace', whole(grace))
  end
  local left = grace - now
  return left > 0 and left <= GRACE and left or 0  -- one further ahead is of another clock
end

-- Forget what was noted of a ticket that has left the queue, and of all waiters with the last one.
-- A node whose slot is moving away refuses to look for a key that it does not have: it is gone.
local function forget(queue, waiters, number)
  if redis.pcall('EXISTS', queue) == 1 then redis.call('HDEL', waiters, number)
  else redis.call('DEL', waiters) end
end

-- Grant the head of the queue, skipping the dead, and ring the bell of its process.
-- `head` is the one that the caller has taken off the queue already, if it has.
-- Returns the bell's text instead of ringing when the process is `caller`, else false;
-- and behind it, while more are in the queue, the milliseconds after which to call again.
local function grant_next(holder, queue, waiters, fence, bell, caller, lease_ms, idle_ms, head)
  local again = 0
  local now, micros = clock()
  for _ = 1, MAX_DEAD_HEADS do
    -- A write that needs no memory, before those that need some: see keeping.lua.
    head = head or redis.call('ZPOPMIN', queue)
    if not head[1] then
      redis.call('SET', holder, fence, 'PX', idle_ms)
      redis.pcall('DEL', waiters)  -- as in `forget`: the last one may have been passed over
      return false
    end
    local process, request, secret, tag = string.match(head[1], MEMBER)
    if process == 'inbox' then
      redis.call('ZADD', queue, head[2], head[1])
      leave_vacant(holder, fence, bell)
      return false, 1000
    end
    local seen = redis.call('HMGET', waiters, process, head[2], 'stop')
    local alive, where = string.match(seen[1] or '', '^(%d+) (%S+)$')
    if alive and tonumber(alive) > now then
      forget(queue, waiters, head[2])
      local hold = now + tonumber(string.match(seen[2] or '', ' (%d+)$') or lease_ms)
      -- Until the grantee's next heartbeat it holds no longer than it is known to live.
      local lease = math.min(math.max(tonumber(alive), now + 1500), now + lease_ms, hold)
      if request == '0' then  -- a bare ticket: nothing renews it, it lives its lifetime
        lease = hold
        redis.call('HDEL', waiters, process)
      end
      fence = whole(math.max(tonumber(fence) + 1, micros))
      redis.call('SET', holder, holder_record(
        fence, head[2], head[1], lease, whole(hold), whole(now), where), 'PX', idle_ms)
      local text = string.format('grant %s %s %s %.0f', request, head[2], fence, lease)
      local stop, mode = string.match(seen[3] or '', '^(%d+) (%a+)$')
      if stop and tonumber(stop) > tonumber(head[2]) then text = text .. ' ' .. mode end
      if process == caller then return text end
      ring(bell, process, secret, tag, text)
      return false
    end
    again = request ~= '0' and grace_left(waiters, now) or 0
    if again > 0 then
      redis.call('ZADD', queue, head[2], head[1])
      -- The last one has made the key anew.
      if redis.call('ZCARD', queue) == 1 then redis.call('PEXPIRE', queue, idle_ms) end
      break
    end
    redis.call('HDEL', waiters, head[2], process)
    head = nil
  end
  redis.call('SET', holder, holder_record(fence, 0, '-', 0, 0, 0, '-'), 'PX', idle_ms)
  return false, again
end
