-- End the turn of a message: keep the outcomes of its messages, tell who listens in other
-- processes, append what is to be delivered, and serve the next message. A message without an outcome goes back to its number.
-- Repeating it is harmless: it finds the turn that the first call has begun, or the kept reply.
-- KEYS  1 counter  2 holder  3 queue  4 waiters  5 messages  6 expiries  7 submitted
--       8 deliveries  9 dead letters  10 index (not in a cluster)
-- ARGV  1 member  2 fence  3 bell channel prefix  4 idle expiry ms  5 window ms
--       6 member of the next turn here, without the id ("": no room)  7 where  8 lease ms
--       9 hold ms  10 conversation  11 the delivery ("": none)  12 most dead letters
--       13 "1": the attempt at its message is not counted if it goes back or has failed, "0": it
--       is; then for each message: id, kind, text. Kinds: d reply, e error, x dead letter
-- Returns as `serve` | {4} ended | {4, bell's text} the next ticket is of this process
--       | {7} ended, in a cluster: put it into the index for those who serve, and ring
--       | {5} it had ended before | {6, fence there} the turn is another's: nothing was done
--@ messages
local now = clock()
local fence, number, member = turn(KEYS[2])
local process, own = string.match(ARGV[1], '^(%w+).*%.!(.+)$')

-- One reply that is kept, and nothing else to do: without the functions that all else needs.
if fence == ARGV[2] and member == ARGV[1] and #ARGV == 16 and ARGV[14] == own and ARGV[15] == 'd'
    and ARGV[11] == '' and KEYS[10] and redis.call('EXISTS', KEYS[3], KEYS[8]) == 0
    and redis.call('HLEN', KEYS[7]) == 2 then
  local listeners = string.match(redis.call('HGET', KEYS[7], own) or '', '%S+$') or '?'
  listeners = string.gsub(listeners, '^@[%d:]+,', '', 1)  -- its own window is in ARGV[5]
  if listeners == '-' or listeners == ''
      or string.find(listeners, '^' .. process .. '%.[^,]*,$') then
    redis.call('DEL', KEYS[7], KEYS[4])
    forget_old(KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], now)
    keep(KEYS[5], KEYS[6], own, 'd ' .. ARGV[1] .. ' - ' .. ARGV[16], ARGV[5], now, 0)
    redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    redis.call('ZREM', KEYS[10], ARGV[10])
    return {4}
  end
end

--@ inbox
local keys = {counter = KEYS[1], holder = KEYS[2], queue = KEYS[3], waiters = KEYS[4],
  submitted = KEYS[7], apart = not KEYS[10] and ARGV[13] ~= '1'}  -- who gives one back may be closing
if fence ~= ARGV[2] or member ~= ARGV[1] then
  local begun = served_before(KEYS[2], KEYS[7], KEYS[4], ARGV[6])
  if begun then return begun end  -- by the first call
  local state, by = record(KEYS[5], own)
  if state and by == ARGV[1] then return {5} end
  return {6, tonumber(fence or 0)}
end

-- What is freed comes before what is kept: it works on a server without memory.
local outcomes, own_ended = {}, false
for i = 14, #ARGV, 3 do
  local id, kind, text = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local at, _, attempts, _, since, mode, listeners = submission(KEYS[7], id)
  local carried = mode and string.match(mode, '^carried:(%d+)') == fence
  if at and (id == own or carried) then
    local message = kind == 'x' and redis.call('HGET', KEYS[7], ' ' .. id)
    redis.call('HDEL', KEYS[7], id, ' ' .. id)
    if carried then
      redis.call('ZREM', KEYS[3], WAITS .. id)
      forget(KEYS[3], KEYS[4], at)
    end
    if id == own then own_ended = true end
    if kind == 'e' then
      local one = id == own and ARGV[13] == '1' and 0 or 1
      text = table.concat({attempts + one, since, text}, ' ')
    end
    if message then bury(KEYS[9], ARGV[12], id, now, at, since, text, message) end
    outcomes[#outcomes + 1] = {id, kind, text, listeners}
  end
end
if not own_ended then
  first_write(KEYS[7])
  local at, _, attempts, begun, since, mode, listeners = submission(KEYS[7], own)
  if at then
    if ARGV[13] ~= '1' then attempts, begun = attempts + 1, fence end
    redis.call('HSET', KEYS[7], own,
      submission_text(at, 0, attempts, begun, since, mode, listeners))
    return_message(KEYS[3], number, member)
    redis.call('HSET', KEYS[4], ANYONE, FOR_EVER)
  end
end
if #outcomes > 0 then
  forget_old(KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], now)
  for _, outcome in ipairs(outcomes) do
    local id, kind, text, listeners = unpack(outcome)
    keep(KEYS[5], KEYS[6], id, kind .. ' ' .. ARGV[1] .. ' - ' .. text,
      window_of(listeners, ARGV[5]), now, 0)
    tell(ARGV[3], listeners, process)
  end
  if ARGV[11] ~= '' then redis.call('RPUSH', KEYS[8], ARGV[11]) end
end

local served, waits, untold = hand_on(keys, fence, offer(ARGV[6], ARGV[7], ARGV[8], ARGV[9]), ARGV[3],
  ARGV[4], string.match(ARGV[6], '^%w+') or '')
if not waits then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('DEL', KEYS[4])
  if not KEYS[10] then redis.call('PEXPIRE', KEYS[7], ARGV[4]) end
elseif type(served) ~= 'table' and not unfinished(KEYS[7]) then let_expire(keys, ARGV[4]) end
if KEYS[10] then
  if waits and type(served) == 'table' then
    redis.call('ZADD', KEYS[10], whole(now + ARGV[8] + LOOK), ARGV[10])
  elseif waits or redis.call('EXISTS', KEYS[8]) == 1 then
    redis.call('ZADD', KEYS[10], whole(now), ARGV[10])
  else redis.call('ZREM', KEYS[10], ARGV[10]) end
end
if type(served) == 'table' then return served end
return untold and {7} or served and {4, served} or {4}
