-- Whether a replica is alive that does not know the inbox: a version before 0.5.0.
-- KEYS  1 hash of reports, see live.lua
-- ARGV  1 ms without a report after which a replica is not alive
-- Returns 1 there is one | 0 there is none
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all = redis.pcall('HGETALL', KEYS[1])
if all.err then return 0 end  -- a key of another kind: no replica can report
for i = 1, #all, 2 do
  local at, body = string.match(all[i + 1], '^(%d+) (.*)$')
  local report = at and all[i] ~= 'watched' and string.sub(all[i], -5) ~= ' rows'
  if report and now - at <= tonumber(ARGV[1]) and not string.find(body, '"inbox":', 1, true)
      and not string.find(body, '"gone":true', 1, true) then
    return 1
  end
end
return 0
