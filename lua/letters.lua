-- The dead letters of a conversation: of messages, and of deliveries.
-- KEYS  1 dead letters  2 dead letters of deliveries
-- ARGV  1 most of each
-- Returns {how many there are, "m", message id, letter | "d", "", letter, ...}
local all, sent = redis.call('HGETALL', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1)
local out = {#all / 2 + #sent}
for i = 1, math.min(#all, 2 * ARGV[1]), 2 do
  out[#out + 1], out[#out + 2], out[#out + 3] = 'm', all[i], all[i + 1]
end
for i = 1, math.min(#sent, ARGV[1]) do
  out[#out + 1], out[#out + 2], out[#out + 3] = 'd', '', sent[i]
end
return out
