-- Keep the replies to the messages of a turn, end the tickets of those it has carried, and tell
-- who waits for them.
-- KEYS  1 queue  2 waiters  3 messages  4 expiries
-- ARGV  1 member of the turn  2 bell channel prefix  3 window ms, then for each message: id, reply
-- Returns how many of the messages were the turn's to answer
local now = clock()
local count = 0
for i = 4, #ARGV, 2 do
  local state, owner, listeners, ticket = record(KEYS[3], ARGV[i])
  if owner == ARGV[1] or state == 'k' and ticket == ARGV[1] then
    if state == 'k' and ticket ~= ARGV[1] then
      local number = redis.call('ZSCORE', KEYS[1], ticket)
      if number then redis.call('HDEL', KEYS[2], number) end
      redis.call('ZREM', KEYS[1], ticket)
      listeners = listeners .. ',' .. ticket
    end
    keep(KEYS[3], KEYS[4], ARGV[i], 'd ' .. ARGV[1] .. ' - ' .. ARGV[i + 1], ARGV[3], now)
    for process, request in string.gmatch(listeners, '(%w+)%.(%d+)[^,]*') do
      redis.call('PUBLISH', ARGV[2] .. process, 'answered ' .. request)
    end
    count = count + 1
  end
end
return count
