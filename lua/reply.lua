-- Ask for the reply to a message that another ticket has, and be told when it is there.
-- KEYS  1 holder  2 queue  3 waiters  4 messages
-- ARGV  1 message id  2 who asks: "<process>.<request>"
-- Returns {1, reply} | {0} not yet: the bell "answered <request>" will ring | {-1} nobody has it
local state, owner, listeners, text = record(KEYS[4], ARGV[1])
if state == 'd' then return {1, text} end
if not had(KEYS[1], KEYS[2], KEYS[3], state, owner, text, (clock())) then return {-1} end
if not string.find(listeners, ARGV[2] .. ',', 1, true) then
  if listeners == '-' then listeners = '' end
  listeners = listeners .. ARGV[2] .. ','
  redis.call('HSET', KEYS[4], ARGV[1],
    state .. ' ' .. owner .. ' ' .. listeners .. ' ' .. text)
end
return {0}
