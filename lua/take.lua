-- Look at a conversation in the index, and serve what waits at its head if no living turn has it.
-- KEYS  1 counter  2 holder  3 queue  4 waiters  5 submitted  6 deliveries  7 their sender
--       8 index (not in a cluster)
-- ARGV  1 member of a turn here, without the id ("": no room)  2 where  3 lease ms  4 hold ms
--       5 idle expiry ms  6 bell channel prefix  7 conversation
--       8 in a cluster, whether look.lua has found it: its listing may be given up then
-- Returns {the answer of `serve`, or {0}, whether deliveries wait and none sends them: 1 | 0,
--         ms after which to look again; -1: nothing is there, and its listing is given up}
--@ inbox returning
local keys = {counter = KEYS[1], holder = KEYS[2], queue = KEYS[3], waiters = KEYS[4],
  submitted = KEYS[5], apart = not KEYS[8]}
local now = clock()
first_write(KEYS[5])
local fence, _, member, lease = turn(KEYS[2])
local served, again = served_before(KEYS[2], KEYS[5], KEYS[4], ARGV[1]) or {0}, -1
if unfinished(KEYS[5]) then
  local older = member and string.sub(member, 1, #WAITS) == WAITS  -- has granted it: see inbox.lua
  if member and not older and tonumber(lease) > now then again = lease - now + LOOK
  else
    return_ticket(KEYS[2], KEYS[3], KEYS[4], ARGV[3], ARGV[5])
    -- Messages may be missing in the queue: see `restore`. Tickets of processes hide that, but
    -- where few wait they are all looked at.
    local fields, ttl = redis.call('HLEN', KEYS[5]), redis.call('PTTL', KEYS[1])
    local queued = redis.call('ZRANGE', KEYS[3], 0, 1)
    local single = fields == 2 and #queued == 1 and string.sub(queued[1], 1, #WAITS) == WAITS
    if not fence or ttl == -2 or not single
        and (fields <= FEW or fields - 1 > 2 * redis.call('ZCARD', KEYS[3])) then
      restore(keys)
    end
    if ttl ~= -1 or not single then
      for _, key in ipairs({KEYS[1], KEYS[3], KEYS[4], KEYS[5]}) do redis.call('PERSIST', key) end
    end
    local found = hand_on(keys, fence or '0', offer(ARGV[1], ARGV[2], ARGV[3], ARGV[4]), ARGV[6],
      ARGV[5], '')
    if found then served = found end
    again = found and ARGV[3] + LOOK or ARGV[1] == '' and 0 or LOOK
  end
elseif has_message(KEYS[1]) then let_expire(keys, ARGV[5]) end
local sender = string.match(redis.call('GET', KEYS[7]) or '', ' (%d+)$')
local delivers = redis.call('EXISTS', KEYS[6]) == 1
local unsent = delivers and (not sender or tonumber(sender) <= now)
if delivers and again == -1 then
  again = math.min(math.max(LOOK, (tonumber(sender) or 0) - now), 60000)  -- see look.lua
end
if KEYS[8] then
  if again == -1 then redis.call('ZREM', KEYS[8], ARGV[7])
  else redis.call('ZADD', KEYS[8], whole(now + again), ARGV[7]) end
elseif again == -1 and ARGV[8] ~= '' then
  redis.call('HINCRBY', KEYS[5], '  listing', 1)
  redis.call('PEXPIRE', KEYS[5], ARGV[5])
end
return {served, unsent and 1 or 0, again}
