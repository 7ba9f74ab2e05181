-- Several acquires and releases of one process in one call, in their order: what a call itself
-- costs is paid once. Each does what it does alone; a failure is returned in its place.
-- KEYS  for each: counter  holder  queue  waiters
-- ARGV  1 host:pid  2 lease ms  3 waiter ttl ms  4 idle expiry ms  5 bell channel prefix, then
--       for each: member, hold ms, most waiting: to acquire | member, fence, "": to release
-- Returns for each what acquire.lua or release.lua returns, or its error
--@ holder handoff acquire() release()
local texts, as_text = {}, whole
whole = function(number)  -- the same times again and again
  texts[number] = texts[number] or as_text(number)
  return texts[number]
end

local out = {}
local keys, to_acquire = {}, {'', ARGV[1], '0', ARGV[2], ARGV[3], '', ARGV[4], '', '0', ARGV[5]}
local to_release = {'', '', ARGV[5], ARGV[2], ARGV[4]}
for i = 1, #KEYS / 4 do
  local k, a = 4 * i, 3 * i + 5
  local ok, answer
  if ARGV[a] ~= '' then
    keys[1], keys[2], keys[3], keys[4] = KEYS[k - 3], KEYS[k - 2], KEYS[k - 1], KEYS[k]
    to_acquire[1], to_acquire[6], to_acquire[8] = ARGV[a - 2], ARGV[a - 1], ARGV[a]
    ok, answer = pcall(acquire, keys, to_acquire)
  else
    keys[1], keys[2], keys[3] = KEYS[k - 2], KEYS[k - 1], KEYS[k]
    to_release[1], to_release[2] = ARGV[a - 2], ARGV[a - 1]
    ok, answer = pcall(release, keys, to_release)
  end
  if not ok and type(answer) ~= 'table' then  -- an error is a text; before Redis 7 with a place and "-"
    answer = {err = string.match(answer, '^%u+ .*') or string.match(answer, '%-(%u+ .*)')
      or 'ERR ' .. answer}
  end
  out[i] = answer
end
return out
