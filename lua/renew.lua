-- Renew the leases of turns that a process holds. A lease that has run out stays out.
-- KEYS  for each turn: counter, holder, waiters, messages, expiries; or five times its holder,
--       while its keys are on two nodes of a cluster: then its lease is renewed, and no more
-- ARGV  1 lease ms  2 idle expiry ms, then for each turn: member, fence ("": any; it is being raised)
-- Returns for each turn {milliseconds of lease it now has, 0 when the turn is lost,
--         the mode in which a later ticket asks it to stop, or ""}
--@ holder keeping
local now = clock()
local left = {}
for i = 1, #KEYS / 5 do
  local k = 5 * i - 4
  local whole_turn = KEYS[k] ~= KEYS[k + 1]
  if whole_turn then
    redis.call('HDEL', KEYS[k + 2], '')  -- a first write: see keeping.lua
    if not has_message(KEYS[k]) then redis.call('PEXPIRE', KEYS[k], ARGV[2]) end
  end
  local fence, number, member, lease, hold, since, where = turn(KEYS[k + 1])
  local wanted = ARGV[2 * i + 2]
  left[i] = {0, ''}
  if member == ARGV[2 * i + 1] and (wanted == fence or wanted == '') and tonumber(lease) > now then
    lease = math.min(now + ARGV[1], hold)
    keep_turn(KEYS[k + 1], holder_record(fence, number, member, lease, hold, since, where), member,
      ARGV[2])
    local asked = whole_turn and redis.call('HGET', KEYS[k + 2], 'stop')
    local stop, mode = string.match(asked or '', '^(%d+) (%a+)$')
    left[i] = {lease - now, stop and tonumber(stop) > tonumber(number) and mode or ''}
    if whole_turn then outlive(KEYS[k + 3], KEYS[k + 4], ARGV[2]) end
  end
end
return left
