-- Carry the messages that wait right behind a turn, and may be carried, into that turn; one that
-- has failed before has a turn of its own. Their tickets stay in the queue until `finish` ends
-- them: should the turn end without that, each has its turn in its place. Repeating a call finds
-- what the first one carried.
-- KEYS  1 holder  2 queue  3 submitted
-- ARGV  1 member of the turn  2 fence  3 most messages  4 number of this call
-- Returns {message id, when it was submitted, message, ...}; nothing when the turn is another's
--@ inbox
local fence, _, member = turn(KEYS[1])
local carried = {}
if fence ~= ARGV[2] or member ~= ARGV[1] then return carried end
first_write(KEYS[3])
for _, ticket in ipairs(redis.call('ZRANGE', KEYS[2], 0, ARGV[3] - 1)) do
  local id = string.sub(ticket, 1, #WAITS) == WAITS and string.sub(ticket, #WAITS + 1) or ''
  local number, granted, attempts, begun, since, mode, listeners = submission(KEYS[3], id)
  if not number then break end
  local by, call = string.match(mode, '^carried:(%d+):(%d+)$')
  if attempts ~= '0' or mode ~= 'coalesce' and not by then break end
  if by ~= fence then
    call = ARGV[4]
    redis.call('HSET', KEYS[3], id, submission_text(number, granted, attempts, begun, since,
      'carried:' .. fence .. ':' .. call, listeners))
  end
  if call == ARGV[4] then
    local i = #carried
    carried[i + 1], carried[i + 2] = id, tonumber(since)
    carried[i + 3] = redis.call('HGET', KEYS[3], ' ' .. id)
  end
end
return carried
