-- Look at a conversation without changing it.
-- KEYS  1 counter  2 holder  3 queue  4 waiters  5 submitted
-- ARGV  1 most waiting tickets to list  2 ticket number whose place is asked (0: none)
-- Returns {now, holder or "", waiting in all, waiting before that ticket,
--          1 if that ticket waits, {member, number, ...}, {process of each: "<alive until> <host:pid>" or "", ...},
--          {"<since> <hold ms>" or "", ...}, last issued number}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local tickets, alive, since = {}, {}, {}
if tonumber(ARGV[1]) > 0 then
  tickets = redis.call('ZRANGE', KEYS[3], 0, ARGV[1] - 1, 'WITHSCORES')
  for i = 1, #tickets, 2 do
    local seen = redis.call('HMGET', KEYS[4], string.match(tickets[i], '^%w+'), tickets[i + 1])
    local id = string.match(tickets[i], '^inbox%.1%-%.!(.+)$')  -- see inbox.lua
    if id then
      local state = redis.call('HGET', KEYS[5], id) or ''
      seen = {'waits', string.match(state, '^%d+ %d+ %d+ %d+ (%d+)')}
    end
    alive[#alive + 1], since[#since + 1] = seen[1] or '', seen[2] or ''
  end
end
return {now, redis.call('GET', KEYS[2]) or '', redis.call('ZCARD', KEYS[3]),
  redis.call('ZCOUNT', KEYS[3], '-inf', '(' .. ARGV[2]),
  redis.call('ZCOUNT', KEYS[3], ARGV[2], ARGV[2]), tickets, alive, since,
  tonumber(redis.call('GET', KEYS[1]) or 0)}
