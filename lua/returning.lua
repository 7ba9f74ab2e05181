-- Tickets that go back to the queue, for every script that takes over from a turn that has run out.
--@ handoff
-- Put the ticket of a turn that has run out back at its number, where it may be of use there: before
-- the conversation is handed on. That of a message always is. That of a process is where it cannot
-- have heard of its turn, which was handed on: nobody was heard until the first lease was over, so the
-- server stood still. Then it is judged as all that wait are. Does nothing where there is no turn.
local function return_ticket(holder, queue, waiters, lease_ms, idle_ms)
  local _, number, member, lease, hold, since, where = turn(holder)
  if not member or return_message(queue, number, member) then return end
  local process, request = string.match(member, MEMBER)
  local renewed = lease - since >= tonumber(lease_ms)
  if not process or request == '0' or renewed or lease == hold then return end
  local now = clock()
  redis.call('HDEL', waiters, '')  -- a first write: see keeping.lua
  if redis.call('HEXISTS', waiters, 'heard') == 0 then  -- nobody else waits: it was known to live that long
    redis.call('HSET', waiters, process, whole(now) .. ' ' .. where, 'heard', whole(now))
  end
  if grace_left(waiters, now) == 0 then return end
  redis.call('ZADD', queue, number, member)
  redis.call('HSET', waiters, number, since .. ' ' .. whole(hold - since))
  if redis.call('ZCARD', queue) == 1 then  -- those where others wait have theirs, or a message
    for _, key in ipairs({queue, waiters}) do redis.call('PEXPIRE', key, idle_ms) end
  end
end

-- A ticket whose turn has run out before its process heard of it waits on, at its number. Only its
-- process can say so: where the body has begun, the ticket is of no more use.
local function wait_on(queue, waiters, number, member, hold, since, alive)
  redis.call('HDEL', waiters, '')  -- a first write: see keeping.lua
  redis.call('ZADD', queue, number, member)
  redis.call('HSET', waiters, number, since .. ' ' .. whole(hold - since),
    string.match(member, '^%w+'), alive)
end
