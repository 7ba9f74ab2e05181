-- Take messages of a conversation that are due, the first due first, to submit them. They stay
-- until later_done.lua removes them.
-- KEYS  1 later  2 due  3 messages
-- ARGV  1 conversation  2 mark of the caller  3 most messages  4 leave those that let so many wait,
--       or fewer, and 0 or more: they were refused
-- Returns {name, record, ...}; nothing if another process moves them
--@ later
local found = {}
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) ~= tonumber(ARGV[2]) then return found end
local most, refused = 2 * ARGV[3], tonumber(ARGV[4])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms())) do
  local entry = ARGV[1] .. ' ' .. name
  local record = redis.call('HGET', KEYS[3], entry)
  local waiting = tonumber(string.match(record or '', '^%S+ %S+ %d+ (%-?%d+)'))
  if not waiting then
    redis.call('ZREM', KEYS[2], name)  -- its record is gone
  elseif waiting < 0 or waiting > refused then
    redis.call('HSET', KEYS[3], '!' .. entry, message_id(record))
    found[#found + 1], found[#found + 2] = name, record
    if #found == most then break end
  end
end
return found
