-- What of a conversation is not finished, for operators.
-- KEYS  1 holder  2 queue  3 submitted  4 deliveries
-- Returns {messages, when the first of them was submitted, its attempts, whether its turn runs: 1 | 0,
--         deliveries, now}
--@ inbox
local now = clock()
local _, _, member, lease = turn(KEYS[1])
local running = member and tonumber(lease) > now and string.match(member, SERVED)
local id, since, tried = running, 0, 0
if not id then
  for _, ticket in ipairs(redis.call('ZRANGE', KEYS[2], 0, 99)) do
    id = string.sub(ticket, 1, #WAITS) == WAITS and string.sub(ticket, #WAITS + 1) or nil
    if id then break end
  end
end
if id then
  local number, _, attempts, _, submitted = submission(KEYS[3], id)
  if number then since, tried = submitted, attempts end
end
local count = math.floor(redis.call('HLEN', KEYS[3]) / 2)  -- a listing is one field more
return {count, tonumber(since), tonumber(tried), running and 1 or 0, redis.call('LLEN', KEYS[4]), now}
