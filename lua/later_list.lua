-- The messages of a conversation that come due later, the first due first; or some by name.
-- KEYS  1 due  2 messages
-- ARGV  1 conversation  2 most  3 a name, ...
-- Returns {name, ms at which it comes due, 1 it is being submitted, or was | 0, record, ...}
--@ later
local names = {unpack(ARGV, 3)}
if #names == 0 then names = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1) end
local found = {}
for _, name in ipairs(names) do
  local entry = ARGV[1] .. ' ' .. name
  local record, moving = unpack(redis.call('HMGET', KEYS[2], entry, '!' .. entry))
  local due = redis.call('ZSCORE', KEYS[1], name)
  if record and due then
    local i = #found
    found[i + 1], found[i + 2], found[i + 4] = name, tonumber(due), record
    found[i + 3] = moving == message_id(record) and 1 or 0
  end
end
return found
