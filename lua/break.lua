-- End somebody else's turn: tell its process, hand the conversation on.
-- KEYS  1 holder  2 queue  3 waiters
-- ARGV  1 fence of the turn to break (0: whichever it is)  2 bell channel prefix
--       3 lease ms  4 idle expiry ms  5 "queue" to drop the waiting tickets too
-- Returns the fence that was broken, 0 when nobody held it (or another fence did)
local held = redis.call('GET', KEYS[1])
local fence, _, member = string.match(held or '', '^(%d+) (%d+) (%S+)')
if ARGV[5] == 'queue' then redis.call('DEL', KEYS[2], KEYS[3]) end
if not fence or (ARGV[1] ~= '0' and ARGV[1] ~= fence) then return 0 end
local process, request = string.match(member, '^(%w+)%.(%d+)')
if process then redis.call('PUBLISH', ARGV[2] .. process, 'broken ' .. request .. ' ' .. fence) end
grant_next(KEYS[1], KEYS[2], KEYS[3], fence, ARGV[2], '', ARGV[3], ARGV[4])
return process and tonumber(fence) or 0
