-- End another's turn: tell its process, hand the conversation on.
-- The turn is named by its fence, so that a repetition breaks no other. A submitted message that
-- it serves ends with it: a sender that waits gets an error, else it is a dead letter.
-- KEYS  1 holder  2 queue  3 waiters  4 messages  5 expiries  6 submitted  7 dead letters
-- ARGV  1 fence of the turn to break  2 bell channel prefix  3 lease ms  4 idle expiry ms
--       5 drop the waiting tickets up to this number too ("": none; submitted messages stay)
--       6 how a submitted message has ended, as text  7 ms for which that is kept
-- Returns 1 broken | 0 that turn is over already
--@ handoff
if ARGV[5] ~= '' then
  local dropped = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[5], 'WITHSCORES')
  for i = 1, #dropped, 2 do
    if string.sub(dropped[i], 1, #WAITS) ~= WAITS then  -- a message is withdrawn by revoke.lua
      redis.call('ZREM', KEYS[2], dropped[i])
      forget(KEYS[2], KEYS[3], dropped[i + 1])
    end
  end
end
local held = redis.call('GET', KEYS[1])
local fence, _, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
if not fence or ARGV[1] ~= fence then return 0 end
local process, request, secret, tag = string.match(member, MEMBER)
if process then ring(ARGV[2], process, secret, tag, 'broken ' .. request .. ' ' .. fence) end
local id = string.match(member, SERVED)
if id then
  --@ inbox messages
  local number, _, attempts, _, since, _, listeners = submission(KEYS[6], id)
  if number then
    local message, now = redis.call('HGET', KEYS[6], ' ' .. id), clock()
    redis.call('HDEL', KEYS[6], id, ' ' .. id)
    local kind, text = 'e', table.concat({attempts + 1, since, ARGV[6]}, ' ')
    if not string.find(listeners, '!', 1, true) then
      kind, text = 'x', ARGV[6]
      bury(KEYS[7], 100, id, now, number, since, text, message)
    end
    keep(KEYS[4], KEYS[5], id, kind .. ' ' .. member .. ' - ' .. text,
      window_of(listeners, ARGV[7]), now, ARGV[4])
    tell(ARGV[2], listeners)
  end
end
grant_next(KEYS[1], KEYS[2], KEYS[3], fence, ARGV[2], '', ARGV[3], ARGV[4])
return process and 1 or 0
