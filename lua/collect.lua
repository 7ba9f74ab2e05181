-- Carry the messages that wait right behind a turn, and may be carried, into that turn.
-- Their tickets stay in the queue until `answer` ends them: should the turn end without that,
-- each has its turn in its place. Repeating a call finds what the first one carried.
-- KEYS  1 holder  2 queue  3 messages
-- ARGV  1 member of the turn  2 fence  3 most messages  4 number of this call
-- Returns {message id, text, ...} in their order, each once; nothing when the turn is another's
--@ messages
local fence, member = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) %d+ (%S+)')
local carried = {}
if fence ~= ARGV[2] or member ~= ARGV[1] then return carried end
first_write(KEYS[3])
for _, ticket in ipairs(redis.call('ZRANGE', KEYS[2], 0, ARGV[3] - 1)) do
  local id = string.match(ticket, '^%w+%.%d+%-?%w*%.(.+)$') or ''
  local state, owner, listeners, text = record(KEYS[3], id)
  local call = ARGV[4]
  if state == 'c' and owner == ticket then
    redis.call('HSET', KEYS[3], id, 'k ' .. member .. ' ' .. listeners .. ' ' .. ticket,
      ' ' .. id, call .. ' ' .. text)
  elseif state == 'k' and owner == member then
    call, text = string.match(redis.call('HGET', KEYS[3], ' ' .. id) or '', '^(%d+) (.*)$')
  else
    break
  end
  if call == ARGV[4] then
    carried[#carried + 1] = id
    carried[#carried + 1] = text
  end
end
return carried
