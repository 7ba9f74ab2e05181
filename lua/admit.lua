-- Acquire for a message with an id: one that is known already gets no second ticket.
-- It runs in front of acquire.lua, which follows only if the message is not known.
-- KEYS  as acquire, and 5 messages  6 expiries
-- ARGV  as acquire, and 11 message id  12 window ms  13 state: w, or c where an earlier turn may
--       carry it  14 the message's text
-- Returns as acquire | {2, reply} it was answered | {2} another living ticket has it
--@ messages
do
  local now = clock()
  local state, owner, listeners, text = record(KEYS[5], ARGV[11])
  if state == 'd' then
    if kept(KEYS[6], ARGV[11], now) then return {2, text} end
    state, owner, listeners = nil
  end
  local mine = owner == ARGV[1] or state == 'k' and text == ARGV[1]
  if not mine and had(KEYS[2], KEYS[3], KEYS[4], state, owner, text, now) then return {2} end
  if not mine then
    listeners = listeners or '-'
    text = ARGV[13] .. ' ' .. ARGV[1] .. ' ' .. listeners .. ' ' .. ARGV[14]
    forget_old(KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], now)
    keep(KEYS[5], KEYS[6], ARGV[11], text, ARGV[12], now, ARGV[7])
  end
end
--@ acquire
