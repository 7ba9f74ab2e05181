-- Look at one document, or swap it if it is still what the caller saw.
-- KEYS  1 document
-- ARGV  1 expected text ("": absent)  2 new text ("": remove; omit ARGV 2 and 3 to look only)
--       3 expiry ms
-- Returns {1 swapped | 0 not, microseconds of the server's clock, the document or ""}
local t = redis.call('TIME')
local current = redis.call('GET', KEYS[1]) or ''
local swapped = 0
if ARGV[2] and current == ARGV[1] then
  if ARGV[2] == '' then redis.call('DEL', KEYS[1])
  else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
  swapped = 1
end
return {swapped, t[1] * 1000000 + t[2], current}
