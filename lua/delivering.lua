-- Who sends the deliveries of a conversation; deliver_take.lua has the keys.
local function sender(key)
  return string.match(redis.call('GET', key) or '', '^(%S+) (%d+) (%d+) (%d+)$')
end

local function lease(key, process, till, tries, part)
  redis.call('DEL', key)  -- a server out of memory denies a SET, but none after a write like this
  redis.call('SET', key, process .. ' ' .. whole(till) .. ' ' .. tries .. ' ' .. part)
end
