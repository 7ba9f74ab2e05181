-- Whether this server keeps what it has over a restart.
-- KEYS  1 any key of the node that is asked
-- Returns appendonly | memory | unknown, where INFO is not allowed
local found = redis.pcall('INFO', 'persistence')
if type(found) ~= 'string' then return 'unknown' end
local enabled = string.match(found, 'aof_enabled:(%d)')
return enabled == '1' and 'appendonly' or enabled == '0' and 'memory' or 'unknown'
