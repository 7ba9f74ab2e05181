-- End a turn and hand the conversation to the next living waiter.
-- KEYS  1 holder  2 queue  3 waiters
-- ARGV  1 member  2 fence  3 bell channel prefix  4 lease ms  5 idle expiry ms
-- Returns 1 released | 0 not the holder any more, or granted again meanwhile
--       | the bell's text when the next ticket is of the caller's own process
local held = redis.call('GET', KEYS[1])
local fence, _, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
local released, number, head = 1, nil, nil
if member ~= ARGV[1] then
  -- It may wait again: see `return_ticket`. Its process is done with it.
  number = redis.call('ZSCORE', KEYS[2], ARGV[1])
  if not number then return 0 end
else
  if fence ~= ARGV[2] then released = 0 end
  head = redis.call('ZPOPMIN', KEYS[2])
  if not head[1] then
    redis.call('SET', KEYS[1], fence, 'PX', ARGV[5])
    return released
  end
end
--@ handoff
if number then
  redis.call('ZREM', KEYS[2], ARGV[1])
  forget(KEYS[2], KEYS[3], number)
  return 0
end
local caller = released == 1 and string.match(ARGV[1], '^%w+') or ''
return grant_next(
  KEYS[1], KEYS[2], KEYS[3], fence, ARGV[3], caller, ARGV[4], ARGV[5], head) or released
