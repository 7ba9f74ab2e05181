-- The heartbeat of a process's waiters, and the truth behind its bells: refresh their
-- liveness, take over from a holder whose lease ran out, tell what was granted to us.
-- KEYS  for each conversation: counter, holder, queue, waiters
-- ARGV  1 process  2 host:pid  3 lease ms  4 waiter ttl ms  5 idle expiry ms  6 bell channel
--       prefix, then for each conversation the member of our lowest ticket in it
-- Returns {now, then for each conversation {missing, lease ms of the holder, bell's text or ""}};
--         missing 1: that ticket neither waits nor holds; it was skipped, or the queue is gone
local process, where, bell = ARGV[1], ARGV[2], ARGV[6]
local now = clock()
local out = {now}
for i = 1, #KEYS, 4 do
  local counter, holder, queue, waiters = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  redis.call('HSET', waiters, process, string.format('%.0f %s', now + ARGV[4], where))
  for _, key in ipairs({counter, queue, waiters}) do redis.call('PEXPIRE', key, ARGV[5]) end

  local first = ARGV[6 + (i + 3) / 4]
  local held = redis.call('GET', holder) or '0'
  local fence, number, member, lease, hold, since, host = string.match(held, HOLDER)
  local missing = first ~= member and not redis.call('ZSCORE', queue, first) and 1 or 0
  if not fence or tonumber(lease) <= now then
    local text, more = grant_next(holder, queue, waiters, fence or held, bell, process, ARGV[3], ARGV[5])
    if first == member then missing = 1 end  -- our own lease ran out before we heard of it
    out[#out + 1] = {missing, more and 0 or tonumber(ARGV[4]), text or ''}
  elseif string.sub(member, 1, #process + 1) == process .. '.' then
    lease = math.min(now + ARGV[3], hold)
    redis.call('SET', holder, string.format('%s %s %s %.0f %s %s %s',
      fence, number, member, lease, hold, since, host), 'PX', ARGV[5])
    local request = string.match(member, '^%w+%.(%d+)')
    out[#out + 1] = {missing, lease - now,
      string.format('grant %s %s %s %.0f', request, number, fence, lease)}
  else
    out[#out + 1] = {missing, lease - now, ''}
  end
end
return out
