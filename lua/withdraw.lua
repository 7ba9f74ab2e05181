-- Take a ticket back: out of the queue, or out of the turn that was granted meanwhile.
-- The ticket is named by its member, or by its number when the member is "": then it may be
-- of another process, which its bell tells.
-- KEYS  1 holder  2 queue  3 waiters
-- ARGV  1 member  2 number  3 bell channel prefix  4 lease ms  5 idle expiry ms
-- Returns 1 withdrawn or handed on | 0 the ticket was not there
--@ handoff
local held = redis.call('GET', KEYS[1])
local fence, serving, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
local found = fence and (member == ARGV[1] or ARGV[1] == '' and serving == ARGV[2])
if not found then
  member = ARGV[1]
  if member == '' then member = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[2], ARGV[2])[1] end
  local number = member and redis.call('ZSCORE', KEYS[2], member)
  if not number or string.sub(member, 1, #WAITS) == WAITS then return 0 end  -- see revoke.lua
  redis.call('ZREM', KEYS[2], member)
  forget(KEYS[2], KEYS[3], number)
end
local process, request, secret, tag = string.match(member, MEMBER)
if request == '0' then redis.call('HDEL', KEYS[3], process) end
if ARGV[1] == '' and process and request ~= '0' then
  ring(ARGV[3], process, secret, tag, 'finished ' .. request .. ' ' .. (found and fence or 0))
end
if found then
  return_message(KEYS[2], serving, member)
  grant_next(KEYS[1], KEYS[2], KEYS[3], fence, ARGV[3], '', ARGV[4], ARGV[5])
end
return 1
