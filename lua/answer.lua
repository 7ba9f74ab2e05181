-- Keep the replies to the messages of a turn, end the tickets of those it has carried, and tell
-- the processes that wait for them. With a fence it ends the turn behind that, in one step: a reply
-- that came behind its release would be too late for a duplicate.
-- KEYS  1 holder  2 queue  3 waiters  4 messages  5 expiries
-- ARGV  1 member of the turn  2 fence ("": the turn goes on)  3 bell channel prefix  4 lease ms
--       5 idle expiry ms  6 window ms, then for each message: id, reply
-- Returns how many of the messages were the turn's to answer | with a fence, as release
--@ handoff messages
local now = clock()
first_write(KEYS[4])
forget_old(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], now)
local _, _, serving = turn(KEYS[1])
local count = 0
for i = 7, #ARGV, 2 do
  local state, owner, listeners, ticket = record(KEYS[4], ARGV[i])
  local carried = state == 'k' and ticket ~= ARGV[1]
  local waits = carried and redis.call('ZSCORE', KEYS[2], ticket)
  local ours = owner == ARGV[1] or state == 'k' and ticket == ARGV[1]
  -- A carried message whose own turn has begun, after this one was lost, gets the reply of that.
  if ours and (not carried or waits or serving == ARGV[1]) then
    if waits then
      redis.call('ZREM', KEYS[2], ticket)
      forget(KEYS[2], KEYS[3], waits)
    end
    if carried then listeners = listeners .. ',' .. ticket end
    redis.call('HDEL', KEYS[4], ' ' .. ARGV[i])
    keep(KEYS[4], KEYS[5], ARGV[i], 'd ' .. ARGV[1] .. ' - ' .. ARGV[i + 1], ARGV[6], now, 0)
    for listener in string.gmatch(listeners, '%w+%.%d+[^,]*') do
      local process, request, secret, tag = string.match(listener, MEMBER)
      ring(ARGV[3], process, secret, tag, 'answered ' .. request)
    end
    count = count + 1
  end
end
if ARGV[2] == '' then return count end
--@ release
