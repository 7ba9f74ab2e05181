-- The heartbeat of a process's waiters, and the truth behind its bells: refresh their
-- liveness, take over from a holder whose lease ran out, tell what was granted to us.
-- KEYS  for each conversation: counter, holder, queue, waiters, messages, expiries
-- ARGV  1 process  2 where  3 lease ms  4 waiter ttl ms  5 idle expiry ms  6 bell channel
--       prefix, then for each conversation the member of our lowest ticket in it
-- Returns {now, then for each conversation {missing, lease ms of the holder, bell's text or ""}};
--         missing 1: that ticket neither waits nor holds; it was skipped, or the queue is gone
--@ returning keeping
local process, where, bell = ARGV[1], ARGV[2], ARGV[6]
local now = clock()
local alive = whole(now + ARGV[4])
local out = {now}

-- Drop processes that were not heard for long from a hash of waiters: a few of them at a time.
local function drop_dead(waiters)
  local some = redis.call('HRANDFIELD', waiters, 2, 'WITHVALUES')
  for j = 1, #some, 2 do
    local last = string.match(some[j + 1], '^(%d+) %S+:')
    if last and last + 60000 < now then redis.call('HDEL', waiters, some[j]) end
  end
end

for i = 1, #KEYS / 6 do
  local k = 6 * i - 5
  local holder, queue, waiters, first = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], ARGV[6 + i]
  redis.call('HDEL', waiters, '')  -- a first write: see keeping.lua
  local lasts = has_message(KEYS[k])
  if not lasts then redis.call('PEXPIRE', KEYS[k], ARGV[5]) end
  outlive(KEYS[k + 4], KEYS[k + 5], ARGV[5])
  local fence, number, member, lease, hold, since, at = turn(holder)
  local over = not member or tonumber(lease) <= now
  if over then return_ticket(holder, queue, waiters, ARGV[3], ARGV[5]) end
  if redis.call('EXISTS', queue) == 1 then
    grace_left(waiters, now)  -- we may be the first that is heard after the server stood still
    redis.call('HSET', waiters, process, alive .. ' ' .. where, 'heard', awaited(now, ARGV[4]))
    if not lasts then
      for _, key in ipairs({queue, waiters}) do redis.call('PEXPIRE', key, ARGV[5]) end
    end
    drop_dead(waiters)
  end

  local missing = first ~= member and not redis.call('ZSCORE', queue, first) and 1 or 0
  local left, text = tonumber(ARGV[4]), ''
  if over then
    if first == member then
      wait_on(queue, waiters, number, member, hold, since, alive .. ' ' .. where)
    end
    local granted, again = grant_next(
      holder, queue, waiters, fence or '0', bell, process, ARGV[3], ARGV[5])
    left, text = again or left, granted or ''
  else
    if string.sub(member, 1, #process + 1) == process .. '.' then
      lease = math.min(now + ARGV[3], hold)
      keep_turn(holder, holder_record(fence, number, member, lease, hold, since, at), member, ARGV[5])
      text = string.format('grant %s %s %s %.0f', string.match(member, '^%w+%.(%d+)'), number,
        fence, lease)
    end
    left = lease - now
  end
  out[i + 1] = {missing, left, text}
end
return out
