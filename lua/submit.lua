-- Store a message with a ticket of its own, and serve it at once if the conversation is free and
-- the process has room. A message that is known gets no second ticket.
-- KEYS  1 counter  2 holder  3 queue  4 waiters  5 messages  6 expiries  7 submitted
--       8 index (not in a cluster)
-- ARGV  1 member of a turn here, without the id ("": no room)  2 where  3 lease ms  4 hold ms
--       5 idle expiry ms  6 bell channel prefix  7 message id  8 mode, and behind it its terms, as
--       in inbox.lua, if they are not those of each process  9 listener ("": none)
--       10 most waiting (-1: any); one more is let in where this call puts the ticket of a process
--       back, which is not counted yet  11 conversation  12 in a cluster, the listing that it was
--       put into the index for  13 the message
--       14 of a message that came due: ms until which it may be submitted; listener: "@due"
-- Returns as `serve` it is served | {0, number, now, turns before it} it waits
--       | {2, state, text} it was finished | {3, number, now, turns before it} it is known
--       | {-1, waiting} the queue is full | {-2, listing} put it into the index for that first
--       | {-3} too late: another process submits it
--@ holder
local id = ARGV[7]
local now, micros = clock()
local fence, serving, member, lease = turn(KEYS[2])
local wanted, terms = string.match(ARGV[8], '^(%a+)(.*)$')

-- The free conversation comes first, without the functions that all else needs.
local fields = redis.call('HLEN', KEYS[7])
if not ARGV[14] and fence and not member and fields == 0 and ARGV[1] ~= '' and KEYS[8]
    and redis.call('HEXISTS', KEYS[5], id) == 0 then
  local number = redis.call('INCR', KEYS[1])
  redis.call('PERSIST', KEYS[1])
  local hold = now + ARGV[4]
  local ends = math.min(now + ARGV[3], hold)
  local listeners = (terms == '' and '' or terms .. ',') .. (ARGV[9] == '' and '' or ARGV[9] .. ',')
  if listeners == '' then listeners = '-' end
  fence = math.max(fence + 1, micros)
  redis.call('HSET', KEYS[7], id,
    table.concat({number, 1, 0, 0, whole(now), wanted, listeners}, ' '), ' ' .. id, ARGV[13])
  redis.call('SET', KEYS[2], holder_record(
    whole(fence), number, ARGV[1] .. '.!' .. id, ends, whole(hold), whole(now), ARGV[2]))
  redis.call('ZADD', KEYS[8], whole(now + ARGV[3] + 100), ARGV[11])
  return {1, number, fence, ends - now, id, 0, 0, now, wanted, listeners, '', ''}
end

--@ inbox messages
if ARGV[14] and now > tonumber(ARGV[14]) then return {-3} end
local keys = {counter = KEYS[1], holder = KEYS[2], queue = KEYS[3], waiters = KEYS[4],
  submitted = KEYS[7]}
local waits = fields > 1 or fields == 1 and unfinished(KEYS[7])
local number, granted, attempts, begun, since, mode, listeners
if waits then
  number, granted, attempts, begun, since, mode, listeners = submission(KEYS[7], id)
end
if number then
  local heard = with_listener(listeners, ARGV[9])
  if heard ~= listeners then
    first_write(KEYS[7])
    redis.call('HSET', KEYS[7], id,
      submission_text(number, granted, attempts, begun, since, mode, heard))
  end
  return served_before(KEYS[2], KEYS[7], KEYS[4], ARGV[1])
    or {3, tonumber(number), now, redis.call('ZCOUNT', KEYS[3], '-inf', '(' .. number)
      + (member and serving ~= number and tonumber(lease) > now and 1 or 0)}
end
local state, owner, _, text = record(KEYS[5], id)
if state and string.find(ARGV[14] and 'dexv' or 'dxv', state, 1, true) and kept(KEYS[6], id, now) then
  return {2, state, select(3, tried(state, text)) or text}
end
if had(KEYS[2], KEYS[3], KEYS[4], state, owner, text, now) then return {3, 0, now, 0} end

local ends = member and tonumber(lease) <= now
local behind = redis.call('ZCARD', KEYS[3])
if ends and string.find(member, SERVING, 1, true) then behind = behind + 1 end  -- it returns
local busy = member and not ends or behind > 0
if ARGV[10] ~= '-1' and busy and behind >= tonumber(ARGV[10]) then return {-1, behind} end
if not KEYS[8] then
  local listing = redis.call('HGET', KEYS[7], '  listing') or '0'
  if ARGV[12] ~= listing then return {-2, listing} end
end

if not member and (waits or not fence and redis.call('EXISTS', KEYS[3]) == 1) then
  -- The holder's record is gone, or an older version has passed over what waits.
  if waits then restore(keys) end
  fence, serving, member, ends = fence or '0', '0', '-', true
end
-- Behind the living turn of a message all is as its ticket needs it: who waits, expiries, the index.
local steady = waits and member and not ends and redis.call('PTTL', KEYS[1]) == -1
if ends then
  --@ returning
  return_ticket(KEYS[2], KEYS[3], KEYS[4], ARGV[3], ARGV[5])
  hand_on(keys, fence, offer('', ARGV[2], ARGV[3], ARGV[4]), ARGV[6], ARGV[5], '')
  fence, serving, member = turn(KEYS[2])
end
-- Sent again after an error it goes on, with its attempts, and the time that its mark has.
attempts, since = tried(state == 'e' and kept(KEYS[6], id, now) and state, text)
attempts, since = attempts or '0', tonumber(since) or now
number = redis.call('INCR', KEYS[1])
local last = {}
if waits then
  if not steady or behind > 0 then last = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES') end
  if number <= tonumber(last[2] or serving or 0) then  -- the counter was lost
    steady = false
    restore(keys)
    redis.call('SET', KEYS[1], whole(math.max(last[2] or serving, redis.call('GET', KEYS[1]))))
    number = redis.call('INCR', KEYS[1])
  end
end
if not steady then redis.call('PERSIST', KEYS[1]) end
mode, listeners = wanted, with_listener(with_listener('-', terms), ARGV[9])
local served = not member and ARGV[1] ~= ''
redis.call('HSET', KEYS[7], id,
  submission_text(number, served and 1 or 0, attempts, 0, whole(since), mode, listeners),
  ' ' .. id, ARGV[13])
if not KEYS[8] then redis.call('PERSIST', KEYS[7]) end
if served then
  fence, lease = begin_turn(KEYS[2], offer(ARGV[1], ARGV[2], ARGV[3], ARGV[4]), fence, number, id)
  if KEYS[8] then redis.call('ZADD', KEYS[8], whole(now + ARGV[3] + LOOK), ARGV[11]) end
  return {1, number, fence, lease, id, 0, tonumber(attempts), since, mode, listeners, '', ''}
end

redis.call('ZADD', KEYS[3], whole(number), WAITS .. id)
if not steady or string.sub(last[1] or '', 1, #WAITS) ~= WAITS then
  redis.call('HSET', KEYS[4], ANYONE, FOR_EVER)
end
local vacant = not member or member == '-'
if not steady then
  for _, key in ipairs({KEYS[3], KEYS[4]}) do redis.call('PERSIST', key) end
  -- No room here. Where another conversation is due, its bell has rung. In a cluster list.lua rings.
  local rings = vacant and KEYS[8] and redis.call('ZCOUNT', KEYS[8], '-inf', whole(now)) == 0
  if not member then leave_vacant(KEYS[2], fence or '0', rings and ARGV[6]) end
  if vacant and KEYS[8] then redis.call('ZADD', KEYS[8], whole(now), ARGV[11])
  elseif KEYS[8] then redis.call('ZADD', KEYS[8], 'NX', whole(now + ARGV[3] + LOOK), ARGV[11]) end
end
if mode == 'interrupt' or mode == 'rollback' then
  redis.call('HSET', KEYS[4], 'stop', whole(number) .. ' ' .. mode)
  local process, request, secret, tag = string.match(member or '', MEMBER)
  if process then
    ring(ARGV[6], process, secret, tag, string.format('stop %s %s %s', request, fence, mode))
  end
end
local counted = steady and behind + 1 or redis.call('ZCARD', KEYS[3])  -- with this one
return {0, number, now, counted - (vacant and 1 or 0)}
