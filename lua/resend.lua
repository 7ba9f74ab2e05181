-- Submit a dead letter again, as a new ticket at the tail with the same message id. The letter goes
-- in the same step, so that it is never submitted twice.
-- KEYS  as for submit.lua, then the dead letters
-- ARGV  as for submit.lua, without the message
-- Returns as submit.lua; with the bytes of the message behind it where it waits now
--       | {-3} there is no letter of it
--@ inbox messages submit()
local keys, args, id = {}, {}, ARGV[7]
for i = 1, #KEYS - 1 do keys[i] = KEYS[i] end
for i = 1, 12 do args[i] = ARGV[i] end
local _, _, _, size, rest =
  string.match(redis.call('HGET', KEYS[#KEYS], id) or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
if not size then return {-3} end
args[13] = string.sub(rest, size + 1)
local kept_text = redis.call('HGET', KEYS[5], id)
if string.sub(kept_text or '', 1, 1) ~= 'x' then kept_text = nil end
first_write(KEYS[#KEYS])
if kept_text then redis.call('HDEL', KEYS[5], id) end  -- submit.lua refuses what has ended so
local answer = submit(keys, args)
if answer[1] == 0 or answer[1] == 1 or answer[1] == 3 then redis.call('HDEL', KEYS[#KEYS], id)
elseif kept_text then redis.call('HSET', KEYS[5], id, kept_text) end
if answer[1] == 0 then answer[#answer + 1] = #args[13] end
return answer
