-- Let a process send what waits of a conversation to be sent, from the oldest delivery on.
--   deliveries  list    JSON texts in the order of their turns; the head is sent first
--   sender      string  "<process> <until ms> <tries> <part>": who sends the head just now, or "-"
--                       while it waits to be tried again; how often it was tried; parts of it sent
-- KEYS  1 deliveries  2 sender
-- ARGV  1 process  2 lease ms  3 deliveries at most  4 bytes at most, but one delivery at least
-- Returns {"taken", tries, part, delivery, ...} | {"held", ms until it may be taken}
--       | {"none"} nothing waits, and nothing of it is left
--@ holder delivering
local now, head = clock(), redis.call('LINDEX', KEYS[1], 0)
if not head then
  redis.call('DEL', KEYS[2])
  return {'none'}
end
local process, till, tries, part = sender(KEYS[2])
-- A lease far ahead is of a clock that was set back since.
if process and process ~= ARGV[1] and tonumber(till) > now
    and (process == '-' or till - now <= ARGV[2] + 60000) then
  return {'held', whole(till - now)}
end
lease(KEYS[2], ARGV[1], now + ARGV[2], tries or 0, part or 0)
local out, bytes = {'taken', tries or '0', part or '0', head}, #head
for i = 1, ARGV[3] - 1 do
  local text = redis.call('LINDEX', KEYS[1], i)
  bytes = bytes + #(text or '')
  if not text or bytes > tonumber(ARGV[4]) then break end
  out[#out + 1] = text
end
return out
