-- Withdraw a message whose turn has not begun: it is never handled then.
-- KEYS  1 counter  2 holder  3 queue  4 waiters  5 messages  6 expiries  7 submitted
-- ARGV  1 message id  2 window ms  3 idle expiry ms  4 bell channel prefix  5 text kept as its outcome
-- Returns {1, bytes of the message} withdrawn | {1} by an earlier call | {0} it is not there
--       | {2} its turn has begun; who has lost it may still commit | {3} it is finished
--@ inbox messages
local id = ARGV[1]
local number, granted, _, _, _, mode, listeners = submission(KEYS[7], id)
local now = clock()
if not number then
  local state = record(KEYS[5], id)
  if not state or not string.find('dexv', state, 1, true) or not kept(KEYS[6], id, now) then
    return {0}
  end
  return {state == 'v' and 1 or 3}
end
if granted ~= '0' or string.sub(mode, 1, 7) == 'carried' then return {2} end
local bytes = #redis.call('HGET', KEYS[7], ' ' .. id)
redis.call('HDEL', KEYS[7], id, ' ' .. id)
redis.call('ZREM', KEYS[3], WAITS .. id)
if string.match(redis.call('HGET', KEYS[4], 'stop') or '', '^%d+') == number
    and redis.call('HLEN', KEYS[7]) <= FEW then
  -- It asks no turn to stop any more; the last one that still does is put in its place.
  redis.call('HDEL', KEYS[4], 'stop')
  restore_stop(KEYS[4], KEYS[7])
end
keep(KEYS[5], KEYS[6], id, 'v - - ' .. ARGV[5], window_of(listeners, ARGV[2]), now, 0)
tell(ARGV[4], listeners)
if not unfinished(KEYS[7]) then
  let_expire({counter = KEYS[1], holder = KEYS[2], queue = KEYS[3], waiters = KEYS[4],
    submitted = KEYS[7]}, ARGV[3])
end
return {1, bytes}
