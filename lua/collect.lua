-- Carry the messages that wait right behind a turn, and may be carried, into that turn.
-- Their tickets stay in the queue until `answer` ends them: should the turn end without that,
-- each has its turn in its place.
-- KEYS  1 holder  2 queue  3 messages
-- ARGV  1 member of the turn  2 fence  3 most messages
-- Returns {message id, text, ...} in their order, each once; nothing when the turn is another's
local fence, member = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) %d+ (%S+)')
local carried = {}
if fence ~= ARGV[2] or member ~= ARGV[1] then return carried end
for _, ticket in ipairs(redis.call('ZRANGE', KEYS[2], 0, ARGV[3] - 1)) do
  local id = string.match(ticket, '^%w+%.%d+%.(.+)$') or ''
  local state, owner, listeners, text = record(KEYS[3], id)
  if state == 'c' and owner == ticket then
    redis.call('HSET', KEYS[3], id, 'k ' .. member .. ' ' .. listeners .. ' ' .. ticket)
    carried[#carried + 1] = id
    carried[#carried + 1] = text
  elseif state ~= 'k' or owner ~= member then
    break
  end
end
return carried
