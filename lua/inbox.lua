-- Messages that were submitted: they wait without a process, and are served by any that has room.
--   submitted  hash  message id, escaped as in a member's label -> its state; "<number> <granted>
--                    <attempts> <begun> <submitted at> <mode> <listeners>": ticket number; grants
--                    that did not end in order; attempts before the one to come, and the fence
--                    under which the last was counted; mode: enqueue, coalesce, interrupt,
--                    rollback, or "carried:<fence>:<call>"; listeners as in messages.lua
--                    " <message id>" -> the message
--                    "  listing"     -> only in a cluster: counts how often it left the index
--   index      zset  conversation -> ms: when to look at it; it has one while something waits
-- A ticket waits in the queue as "inbox.1-.!<id>"; its turn's member is
-- "<process>.<request>-<secret>.!<id>". What ends that turn without `finish` puts the ticket back at
-- its number. While a conversation has such a message its counter, queue, waiters and messages do
-- not expire: the counter without an expiry says so to the other scripts. A vacant holder with a
-- queue is left to the processes that serve.
--@ handoff keeping
local STATE = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$'
local LETTERS = 30 * 24 * 3600000  -- ms for which dead letters are kept
local HEARS = '+'  -- in a listener: it hears what is said before that is stored; see say.lua
local LOOK = 100  -- ms after the end of a lease at which a conversation is looked at
local FEW = 64  -- fields, two of each message, that a script may go through: none runs long
-- Stands among the listeners of a message that came due later, until later_settle.lua: where it
-- waited it may still stand, and be submitted again. Its outcome is kept so long, in ms.
local DUE, SUBMITTED_AGAIN = '@due', 30 * 24 * 3600000

-- In `waiters`, while a message waits: a version before 0.5.0 takes the tickets of messages for those of
-- a process, and would skip one that it does not find alive. It grants them turns then, which take.lua
-- takes from it at once.
local ANYONE, FOR_EVER = 'inbox', '9999999999999 inbox'

local function submission(submitted, id)
  return string.match(redis.call('HGET', submitted, id) or '', STATE)
end

local function submission_text(number, granted, attempts, begun, since, mode, listeners)
  return table.concat({number, granted, attempts, begun, since, mode, listeners}, ' ')
end

-- Add a listener, one of each process: it asks again and again, under another name each time, and
-- the last name is its own. It is awaited once it was. "-" is none.
local function with_listener(listeners, listener)
  if listener == '' or string.find(listeners, listener .. ',', 1, true) then return listeners end
  local process, kept = string.match(listener, '^%w+%.'), ''
  for known in string.gmatch(listeners, '[^,]+,') do
    if not process or string.sub(known, 1, #process) ~= process then kept = kept .. known
    elseif string.find(known, '!', 1, true) and not string.find(listener, '!', 1, true) then
      listener = string.gsub(listener, '%+?$', '!%0', 1)
    end
  end
  return kept .. listener .. ','
end

-- How long the outcome of a message is kept, and a turn of it may last: terms of its own stand among
-- its listeners as "@<window ms>:<hold ms>:<ms of a turn>".
local TERMS = '@(%d+):(%d+)'
local function window_of(listeners, window_ms)
  window_ms = string.match(listeners, TERMS) or window_ms
  local due = string.find(listeners, DUE .. ',', 1, true)
  return due and math.max(window_ms, SUBMITTED_AGAIN) or window_ms
end

-- Give the keys of a conversation an expiry, once its last message is finished.
local function let_expire(keys, idle_ms)
  for _, key in ipairs({keys.counter, keys.holder, keys.queue, keys.waiters, keys.submitted}) do
    redis.call('PEXPIRE', key, idle_ms)
  end
end

-- Tell those who listen for a message that it is finished, in other processes than `caller`.
local function tell(bell, listeners, caller)
  for listener in string.gmatch(listeners, '[^,]+,') do
    local process, request, secret, tag = string.match(listener, MEMBER)
    if process and process ~= caller then ring(bell, process, secret, tag, 'answered ' .. request) end
  end
end

-- Whether messages are there that are not finished. Without them the hash has a listing at most.
local function unfinished(submitted)
  local count = redis.call('HLEN', submitted)
  return count > 1 or count == 1 and redis.call('HEXISTS', submitted, '  listing') == 0
end

-- What serves: `server` is the member of its next turn without the id, "" where there is no room.
local function offer(server, where, lease, hold)
  return {server = server, where = where, lease = lease, hold = hold}
end

-- Begin the turn of a message under a new fence; returns that and the milliseconds of its lease.
local function begin_turn(holder, offered, fence, number, id)
  local now, micros = clock()
  fence = whole(math.max(tonumber(fence or 0) + 1, micros))
  local hold = now + offered.hold
  local lease = math.min(now + offered.lease, hold)
  redis.call('SET', holder, holder_record(
    fence, number, offered.server .. SERVING .. id, lease, whole(hold), whole(now), offered.where))
  return tonumber(fence), lease - now
end

-- The mode in which a later ticket asks that one to stop, or "".
local function asked_to_stop(stop, number)
  local by, mode = string.match(stop or '', '^(%d+) (%a+)$')
  return by and tonumber(by) > tonumber(number) and mode or ''
end

-- Serve a message that waits; false if there is none of that id.
-- Returns {1, number, fence, lease ms, id, granted before, attempts, submitted at, mode,
--         listeners, the message, the mode in which a later ticket asks it to stop, or ""}
local function serve(holder, submitted, offered, fence, id, stop)
  local state, text = unpack(redis.call('HMGET', submitted, id, ' ' .. id))
  local number, granted, attempts, begun, since, mode, listeners = string.match(state or '', STATE)
  if not number then return false end
  if string.sub(mode, 1, 7) == 'carried' then mode = 'coalesce' end  -- its carrier has not ended it
  local left, hold = nil, select(2, string.match(listeners, TERMS)) or offered.hold
  offered = offer(offered.server, offered.where, offered.lease, hold)
  fence, left = begin_turn(holder, offered, fence, number, id)
  redis.call('HSET', submitted, id,
    submission_text(number, granted + 1, attempts, begun, since, mode, listeners))
  return {1, tonumber(number), fence, left, id, tonumber(granted), tonumber(attempts),
    tonumber(since), mode, listeners, text, asked_to_stop(stop, number)}
end

-- The answer of `serve` once more, for a call whose answer was lost; false if that turn is not there.
local function served_before(holder, submitted, waiters, server)
  local fence, number, member, lease = turn(holder)
  local id = server ~= '' and member and string.match(member, SERVED)
  if not id or member ~= server .. SERVING .. id or tonumber(lease) <= clock() then return false end
  local state, text = unpack(redis.call('HMGET', submitted, id, ' ' .. id))
  local _, granted, attempts, _, since, mode, listeners = string.match(state or '', STATE)
  if not granted then return false end
  return {1, tonumber(number), tonumber(fence), tonumber(lease) - clock(), id,
    tonumber(granted) - 1, tonumber(attempts), tonumber(since), mode, listeners, text,
    asked_to_stop(redis.call('HGET', waiters, 'stop'), number)}
end

-- Note again in which mode the last of the messages that wait asks those before it to stop, unless
-- a later ticket does.
local function restore_stop(waiters, submitted)
  local last = tonumber(string.match(redis.call('HGET', waiters, 'stop') or '', '^%d+')) or 0
  local last_mode
  for _, id in ipairs(redis.call('HKEYS', submitted)) do
    if string.sub(id, 1, 1) ~= ' ' then
      local number, _, _, _, _, mode = submission(submitted, id)
      if (mode == 'interrupt' or mode == 'rollback') and tonumber(number) > last then
        last, last_mode = tonumber(number), mode
      end
    end
  end
  if last_mode then redis.call('HSET', waiters, 'stop', whole(last) .. ' ' .. last_mode) end
end

-- Put messages into the queue that are missing there: an older version skips them, and a queue
-- can be evicted. The same for what they ask others.
local function restore(keys)
  local last = tonumber(redis.call('GET', keys.counter) or 0)
  for _, id in ipairs(redis.call('HKEYS', keys.submitted)) do
    local number = string.sub(id, 1, 1) ~= ' ' and submission(keys.submitted, id)
    if number then
      redis.call('ZADD', keys.queue, number, WAITS .. id)
      last = math.max(last, number)
    end
  end
  redis.call('SET', keys.counter, whole(last))
  redis.call('HSET', keys.waiters, ANYONE, FOR_EVER)
  restore_stop(keys.waiters, keys.submitted)
end

-- Hand a conversation whose turn has ended to its head: a message's is served by `offered`, if that
-- has room; a ticket of a process gets its turn, without a bell if that is `caller`. Returns the
-- answer of `serve`, or the bell's text, or false; whether anything waits; and whether it is left to
-- those who serve without a bell: `keys.apart`, the index is in another slot, where list.lua rings.
local function hand_on(keys, fence, offered, bell, idle_ms, caller)
  for _ = 1, MAX_DEAD_HEADS do
    local head = redis.call('ZPOPMIN', keys.queue)
    if not head[1] and unfinished(keys.submitted) then
      restore(keys)
      head = redis.call('ZPOPMIN', keys.queue)
    end
    if not head[1] then
      redis.call('SET', keys.holder, fence, 'PX', idle_ms)
      return false, false
    end
    local id = string.sub(head[1], 1, #WAITS) == WAITS and string.sub(head[1], #WAITS + 1)
    if not id then
      return grant_next(keys.holder, keys.queue, keys.waiters, fence, bell, caller,
        offered.lease, idle_ms, head) or false, true
    end
    if offered.server == '' then
      redis.call('ZADD', keys.queue, head[2], head[1])
      leave_vacant(keys.holder, fence, not keys.apart and bell)
      return false, true, keys.apart
    end
    local stop = redis.call('HGET', keys.waiters, 'stop')
    local served = serve(keys.holder, keys.submitted, offered, fence, id, stop)
    if served then
      if stop then forget(keys.queue, keys.waiters, head[2]) end
      return served, true
    end
  end
  leave_vacant(keys.holder, fence, bell)
  return false, true
end

-- Keep a dead letter: when it died, its ticket number, when it was submitted, why, and the message.
-- Beyond the bound the oldest goes; all of them do after a time.
local function bury(dead, most, id, now, number, since, why, message)
  local all, oldest = redis.call('HGETALL', dead), 1
  local function died(i) return tonumber(string.match(all[i + 1], '^%d+')) end
  for i = 3, #all, 2 do
    if died(i) < died(oldest) then oldest = i end
  end
  if #all >= 2 * most then redis.call('HDEL', dead, all[oldest]) end
  redis.call('HSET', dead, id,
    table.concat({whole(now), number, since, #why, why .. message}, ' '))
  redis.call('PEXPIRE', dead, LETTERS)
end
