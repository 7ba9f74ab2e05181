-- Remove messages that were submitted, unless another one has the name by now; what was refused
-- stays due. Repeating it is harmless.
-- KEYS  1 later  2 due  3 messages  4 counts
-- ARGV  1 conversation  2 mark of the caller  3 ms after which the conversation is looked at again
--       at the earliest; "": the caller goes on with it; then for each message: name, message id,
--       "1" submitted | "0" refused
-- Returns how many were removed
--@ later
local keys = {later = KEYS[1], due = KEYS[2], messages = KEYS[3], counts = KEYS[4]}
local own = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) == tonumber(ARGV[2])
local removed = 0
for i = 4, #ARGV, 3 do
  local name, id, submitted = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1'
  local entry = ARGV[1] .. ' ' .. name
  local record = redis.call('HGET', KEYS[3], entry)
  if submitted and message_id(record) == id then
    remove(keys, ARGV[1], name, record)
    removed = removed + 1
  elseif (submitted or own) and redis.call('HGET', KEYS[3], '!' .. entry) == id then
    redis.call('HDEL', KEYS[3], '!' .. entry)
  end
end
if own and ARGV[3] ~= '' then
  list(keys, ARGV[1], ARGV[3] == '0' and 0 or now_ms() + ARGV[3])
end
return removed
