-- End a turn and hand the conversation to the next living waiter.
-- KEYS  1 holder  2 queue  3 waiters
-- ARGV  1 member  2 fence  3 bell channel prefix  4 lease ms  5 idle expiry ms
-- Returns 1 released | 0 not the holder any more
--       | the bell's text when the next ticket is of the caller's own process
local held = redis.call('GET', KEYS[1])
local fence, _, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
local released = 1
if fence ~= ARGV[2] or member ~= ARGV[1] then
  released = 0
  -- It may wait again, or have been granted again: see `return_ticket`. Its process is done with it.
  if member ~= ARGV[1] then
    local number = redis.call('ZSCORE', KEYS[2], ARGV[1])
    if number then
      redis.call('ZREM', KEYS[2], ARGV[1])
      if redis.pcall('EXISTS', KEYS[2]) == 1 then redis.call('HDEL', KEYS[3], number)
      else redis.call('DEL', KEYS[3]) end  -- as in `forget`
    end
    return 0
  end
end
local head = redis.call('ZPOPMIN', KEYS[2])
if not head[1] then
  redis.call('SET', KEYS[1], fence, 'PX', ARGV[5])
  return released
end
--@ handoff
local caller = released == 1 and string.match(ARGV[1], '^%w+') or ''
return grant_next(
  KEYS[1], KEYS[2], KEYS[3], fence, ARGV[3], caller, ARGV[4], ARGV[5], head) or released
