-- Cancel a message that comes due later, or all of a conversation, also those being submitted.
-- KEYS  1 later  2 due  3 messages  4 counts
-- ARGV  1 conversation  2 name ("": all)  3 message id ("": whichever has the name)
-- Returns 1 cancelled | 0 there is none | 2 it is being submitted, or was; for all: how many there were
--@ later
local keys = {later = KEYS[1], due = KEYS[2], messages = KEYS[3], counts = KEYS[4]}
local names = ARGV[2] == '' and redis.call('ZRANGE', KEYS[2], 0, -1) or {ARGV[2]}
local cancelled = 0
for _, name in ipairs(names) do
  local entry = ARGV[1] .. ' ' .. name
  local record, moving = unpack(redis.call('HMGET', KEYS[3], entry, '!' .. entry))
  local id = message_id(record)
  if ARGV[2] ~= '' and id and (ARGV[3] == '' or ARGV[3] == id) and moving == id then return 2 end
  if id and (ARGV[3] == '' or ARGV[3] == id) then
    remove(keys, ARGV[1], name, record)
    cancelled = cancelled + 1
  end
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return cancelled
