-- Count an attempt at a message that was granted before, in a turn that did not end in order.
-- KEYS  1 holder  2 submitted
-- ARGV  1 member of its turn  2 fence
-- Returns the attempts before this one, at least 1 | 0 the turn is another's
--@ inbox
local fence, _, member = turn(KEYS[1])
local id = string.match(ARGV[1], SERVED)
local number, granted, attempts, begun, since, mode, listeners = submission(KEYS[2], id)
if fence ~= ARGV[2] or member ~= ARGV[1] or not number then return 0 end
if begun ~= fence then  -- else the call is repeated
  attempts = attempts + 1
  first_write(KEYS[2])
  redis.call('HSET', KEYS[2], id,
    submission_text(number, granted, attempts, fence, since, mode, listeners))
end
return tonumber(attempts)
