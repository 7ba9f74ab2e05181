-- Remove a value in the documented format once it has been carried over.
-- KEYS  1 the value
-- ARGV  1 SHA-1 of what was carried over: whatever else it holds by now stays
-- Returns 1 removed | 0 it has changed or was gone
local value = redis.call('GET', KEYS[1])
if value and redis.sha1hex(value) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
