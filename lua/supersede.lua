-- Ask every turn before a waiting ticket to stop: the one that is served, and those to come.
-- KEYS  1 holder  2 queue  3 waiters, where "stop" keeps "<ticket number> <mode>" for the latter
-- ARGV  1 member of the ticket  2 mode: interrupt | rollback  3 bell channel prefix
-- Returns 1 asked | 0 the ticket does not wait (any more)
--@ handoff keeping
local number = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not number then return 0 end
local known = string.match(redis.call('HGET', KEYS[3], 'stop') or '', '^%d+')
if not known or tonumber(known) <= tonumber(number) then
  first_write(KEYS[3])
  redis.call('HSET', KEYS[3], 'stop', number .. ' ' .. ARGV[2])
end
local fence, member = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) %d+ (%S+)')
local process, request, secret, tag = string.match(member or '', MEMBER)
if process then
  ring(ARGV[3], process, secret, tag, string.format('stop %s %s %s', request, fence, ARGV[2]))
end
return 1
