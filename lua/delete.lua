-- Remove what the inbox has of a conversation: messages, kept replies, deliveries, dead letters. The
-- turn of a message that runs is broken; turns and tickets of other kinds stay.
-- KEYS  1 counter  2 holder  3 queue  4 waiters  5 messages  6 expiries  7 submitted
--       8 deliveries  9 their sender  10 dead letters  11 dead letters of deliveries
-- ARGV  1 bell channel prefix  2 lease ms  3 idle expiry ms  4 text kept as the outcome of messages
--       that were not finished  5 ms for which it is kept
-- Returns {messages, deliveries, dead letters, 1 a turn was broken | 0, bytes of the messages}
--@ inbox messages
local keys = {counter = KEYS[1], holder = KEYS[2], queue = KEYS[3], waiters = KEYS[4],
  submitted = KEYS[7]}
local now, ended, bytes = clock(), {}, 0
local fence, _, member = turn(KEYS[2])
local running = string.match(member or '', SERVED)
local deliveries = redis.call('LLEN', KEYS[8])
local dead = redis.call('HLEN', KEYS[10]) + redis.call('LLEN', KEYS[11])
redis.call('DEL', KEYS[5], KEYS[6], KEYS[8], KEYS[9], KEYS[10], KEYS[11])
for _, id in ipairs(redis.call('HKEYS', KEYS[7])) do
  local number, _, _, _, _, _, listeners
  if string.sub(id, 1, 1) ~= ' ' then
    number, _, _, _, _, _, listeners = submission(KEYS[7], id)
  end
  if number then
    bytes = bytes + #redis.call('HGET', KEYS[7], ' ' .. id)
    redis.call('HDEL', KEYS[7], id, ' ' .. id)
    redis.call('ZREM', KEYS[3], WAITS .. id)
    ended[#ended + 1] = {id, listeners}
  end
end
if running then
  local process, request, secret, tag = string.match(member, MEMBER)
  if process then ring(ARGV[1], process, secret, tag, 'broken ' .. request .. ' ' .. fence) end
  hand_on(keys, fence, offer('', '', ARGV[2], 0), ARGV[1], ARGV[3], '')
end
for _, one in ipairs(ended) do
  keep(KEYS[5], KEYS[6], one[1], 'v - - ' .. ARGV[4], ARGV[5], now, 0)
  tell(ARGV[1], one[2])
end
if has_message(KEYS[1]) then let_expire(keys, ARGV[3]) end
return {#ended, deliveries, dead, running and 1 or 0, bytes}
