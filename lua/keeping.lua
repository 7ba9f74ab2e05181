-- Keeping what is there: in memory that is full, and for as long as it is wanted.
-- The records of messages live as long as the tickets and turns that they are about.
local function outlive(messages, expiries, idle_ms)
  local left = redis.call('PTTL', messages)
  if left > 0 and left < tonumber(idle_ms) then
    redis.call('PEXPIRE', messages, idle_ms)
    redis.call('PEXPIRE', expiries, idle_ms)
  end
end

-- A server without memory left denies the first write of a script if that needs memory, but none
-- after a write that needs none. So what keeps or ends things that are there begins with this.
local function first_write(hash) redis.call('HDEL', hash, '') end
