-- The first messages of a conversation that are not finished, in their order.
-- KEYS  1 holder  2 queue  3 submitted
-- ARGV  1 most messages that wait
-- Returns {how many there are, ticket number that is served or 0, now, message id, state, message,
--         ...}
--@ inbox
local out = {math.floor(redis.call('HLEN', KEYS[3]) / 2), 0, (clock())}
local _, serving, member, lease = turn(KEYS[1])
local function add(id)
  local state, text = unpack(redis.call('HMGET', KEYS[3], id, ' ' .. id))
  if state then out[#out + 1], out[#out + 2], out[#out + 3] = id, state, text end
end
local own = string.match(member or '', SERVED)
if own then
  if tonumber(lease) > clock() then out[2] = tonumber(serving) end
  add(own)
end
for _, ticket in ipairs(redis.call('ZRANGE', KEYS[2], 0, ARGV[1] - 1)) do
  if string.sub(ticket, 1, #WAITS) == WAITS then add(string.sub(ticket, #WAITS + 1)) end
end
return out
