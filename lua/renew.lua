-- Renew the leases of all the turns a process holds. A lease that has run out stays out.
-- KEYS  for each turn: counter, holder, waiters
-- ARGV  1 lease ms  2 idle expiry ms, then for each turn: member, fence
-- Returns for each turn {milliseconds of lease it now has, 0 when the turn is lost,
--         the mode in which a later ticket asks it to stop, or ""}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local left = {}
for i = 1, #KEYS / 3 do
  local counter, holder, waiters = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local member, fence = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local head, lease, hold, tail = string.match(redis.call('GET', holder) or '',
    '^(%d+ %d+ %S+) (%d+) (%d+)( %d+ %S+)$')
  local theirs, number, who = string.match(head or '', '^(%d+) (%d+) (%S+)$')
  left[i] = {0, ''}
  if theirs == fence and who == member and tonumber(lease) > now then
    lease = math.min(now + ARGV[1], hold)
    redis.call('SET', holder, string.format('%s %.0f %s%s', head, lease, hold, tail), 'PX', ARGV[2])
    redis.call('PEXPIRE', counter, ARGV[2])
    local stop, mode = string.match(redis.call('HGET', waiters, 'stop') or '', '^(%d+) (%a+)$')
    left[i] = {lease - now, stop and tonumber(stop) > tonumber(number) and mode or ''}
  end
end
return left
