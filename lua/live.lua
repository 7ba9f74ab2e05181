-- The snapshots of all replicas, for the operator's page: store one's own, and read them all.
-- KEYS  1 hash: process -> "<sent at, ms> <its snapshot>"; "<process> rows" -> the same of its
--       conversations, one by one; "watched" -> "<ms>", when an operator last looked
-- ARGV  1 process  2 its snapshot  3 milliseconds for which that is kept
--       4 "1": read; "2": read, because an operator looks  5 its conversations; '': unchanged
-- Returns {now, ms since an operator last looked or -1, then for each process: its name, its
--       snapshot}; without those unless it reads
local SILENT_MS = 10000 -- rows that are older say nothing of now
local MOST_SILENT = 50 -- processes that ended or died and are still shown
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HDEL', KEYS[1], '')  -- see first_write in keeping.lua
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now, ARGV[2]))
if ARGV[5] and ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1] .. ' rows', string.format('%.0f %s', now, ARGV[5]))
end
if ARGV[4] == '2' then redis.call('HSET', KEYS[1], 'watched', string.format('%.0f', now)) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local watched = tonumber(redis.call('HGET', KEYS[1], 'watched') or '')
local out = {now, watched and math.max(0, now - watched) or -1}
if ARGV[4] ~= '1' and ARGV[4] ~= '2' then return out end
local all, silent = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local name, text = all[i], all[i + 1]
  local age = now - tonumber(string.match(text, '^%d+') or 0)
  local rows = string.sub(name, -5) == ' rows'
  if age > (rows and SILENT_MS or tonumber(ARGV[3])) then
    redis.call('HDEL', KEYS[1], name)
  elseif name ~= 'watched' then
    out[#out + 1], out[#out + 2] = name, text
    if age > SILENT_MS then silent[#silent + 1] = {age, name} end
  end
end
table.sort(silent, function(one, other) return one[1] > other[1] end)
for i = 1, #silent - MOST_SILENT do redis.call('HDEL', KEYS[1], silent[i][2]) end
return out
