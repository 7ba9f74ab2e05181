-- What every replica tells of itself, for the operator's page: tell, and hear what all tell.
-- KEYS  1 hash: process -> "<told at, ms> <what it tells>"
-- ARGV  1 process  2 what it tells  3 milliseconds for which that is kept  4 "1": hear
-- Returns {now, then for each process: its name, what it told}; {now} unless it is to hear
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HDEL', KEYS[1], '')  -- see first_write in keeping.lua
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local out = {now}
if ARGV[4] ~= '1' then return out end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^%d+') or 0) + ARGV[3] < now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    out[#out + 1], out[#out + 2] = all[i], all[i + 1]
  end
end
return out
