-- Ask for the reply to a message that another ticket has; a bell says when it is there.
-- KEYS  1 holder  2 queue  3 waiters  4 messages  5 expiries
-- ARGV  1 message id  2 the listener: "<process>.<request>-<secret>"
-- Returns {1, reply} | {0} not yet: the bell "answered <request>" will ring | {-1} no living ticket
--         has it
--@ messages
local state, owner, listeners, text = record(KEYS[4], ARGV[1])
local now = clock()
if state == 'd' then
  if kept(KEYS[5], ARGV[1], now) then return {1, text} end
  return {-1}
end
if not had(KEYS[1], KEYS[2], KEYS[3], state, owner, text, now) then return {-1} end
if not string.find(listeners, ARGV[2] .. ',', 1, true) then
  if listeners == '-' then listeners = '' end
  listeners = listeners .. ARGV[2] .. ','
  first_write(KEYS[4])
  redis.call('HSET', KEYS[4], ARGV[1],
    state .. ' ' .. owner .. ' ' .. listeners .. ' ' .. text)
end
return {0}
