-- End another's turn: tell its process, hand the conversation on.
-- The turn is named by its fence, so that a repetition breaks no other.
-- KEYS  1 holder  2 queue  3 waiters
-- ARGV  1 fence of the turn to break  2 bell channel prefix  3 lease ms  4 idle expiry ms
--       5 drop the waiting tickets up to this number too ("": none)
-- Returns 1 broken | 0 that turn is over already
--@ handoff
if ARGV[5] ~= '' then
  local dropped = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[5], 'WITHSCORES')
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
  for i = 2, #dropped, 2 do forget(KEYS[2], KEYS[3], dropped[i]) end
end
local held = redis.call('GET', KEYS[1])
local fence, _, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
if not fence or ARGV[1] ~= fence then return 0 end
local process, request, secret = string.match(member, MEMBER)
if process then ring(ARGV[2], process, secret, 'broken ' .. request .. ' ' .. fence) end
grant_next(KEYS[1], KEYS[2], KEYS[3], fence, ARGV[2], '', ARGV[3], ARGV[4])
return process and 1 or 0
