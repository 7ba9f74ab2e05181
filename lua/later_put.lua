-- Store a message that comes due later, in place of the one that has its name.
-- KEYS  1 later  2 due  3 messages  4 counts
-- ARGV  1 conversation  2 name  3 message id  4 "<ms>" when it comes due, "+<ms>" from now
--       5 most ms from now  6 most messages of a conversation  7 of the shard  8 most bytes of it
--       9 mode, window, most waiting and lifetime, as in its record  10 text
-- Returns {1, when it comes due} | {0, when} it is there already, and stays as it is
--       | {-1, messages there} too many are there | {-2, now} it is too far ahead
--@ later
local keys = {later = KEYS[1], due = KEYS[2], messages = KEYS[3], counts = KEYS[4]}
local entry, now = ARGV[1] .. ' ' .. ARGV[2], now_ms()
local due = tonumber(ARGV[4])
if string.sub(ARGV[4], 1, 1) == '+' then due = now + due end
local old = redis.call('HGET', KEYS[3], entry)
if message_id(old) == ARGV[3] then
  return {0, tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2]))}
end
if due > now + ARGV[5] then return {-2, now} end

local record = table.concat({ARGV[3], ARGV[9], ARGV[10]}, ' ')
local there = redis.call('ZCARD', KEYS[2])
if not old and there >= tonumber(ARGV[6]) then return {-1, there} end
local counts = redis.call('HMGET', KEYS[4], 'messages', 'bytes')
local messages, bytes = tonumber(counts[1] or 0), tonumber(counts[2] or 0)
if not old and messages >= tonumber(ARGV[7])
    or bytes + #record - #(old or '') > tonumber(ARGV[8]) then return {-1, messages} end

redis.call('HSET', KEYS[3], entry, record)
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[2])
redis.call('HINCRBY', KEYS[4], 'messages', old and 0 or 1)
redis.call('HINCRBY', KEYS[4], 'bytes', #record - #(old or ''))
local listed = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]))
-- Who moves messages of the conversation lists it at the end.
if not listed or listed % 1 == 0 then list(keys, ARGV[1], 0) end
return {1, due}
