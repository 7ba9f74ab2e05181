-- Take a ticket back: out of the queue, or out of the turn that was granted meanwhile.
-- The ticket is named by its member, or by its number when the member is "".
-- KEYS  1 holder  2 queue  3 waiters
-- ARGV  1 member  2 number  3 bell channel prefix  4 lease ms  5 idle expiry ms
-- Returns 1 withdrawn or handed on | 0 there was no such ticket
local held = redis.call('GET', KEYS[1])
local fence, serving, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
if fence and (member == ARGV[1] or ARGV[1] == '' and serving == ARGV[2]) then
  grant_next(KEYS[1], KEYS[2], KEYS[3], fence, ARGV[3], '', ARGV[4], ARGV[5])
  return 1
end
local number = ARGV[2]
if ARGV[1] ~= '' then
  number = redis.call('ZSCORE', KEYS[2], ARGV[1])
  if not number then return 0 end
end
redis.call('HDEL', KEYS[3], number)
return redis.call('ZREMRANGEBYSCORE', KEYS[2], number, number)
