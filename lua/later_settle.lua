-- Due messages were submitted, and are removed where they waited: they are not submitted again. Their
-- outcomes are kept for their windows from now on.
-- KEYS  1 messages  2 expiries  3 submitted
-- ARGV  1 idle expiry ms, then for each message: id, window ms
-- Returns 1
--@ inbox messages
local now, longest = clock(), tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
  local id, window = ARGV[i], ARGV[i + 1]
  local number, granted, attempts, begun, since, mode, listeners = submission(KEYS[3], id)
  if number then
    local others = string.gsub(listeners, DUE .. ',', '')
    redis.call('HSET', KEYS[3], id, submission_text(number, granted, attempts, begun, since, mode,
      others == '' and '-' or others))
  elseif redis.call('ZSCORE', KEYS[2], id) then
    redis.call('ZADD', KEYS[2], whole(now + window), id)
  end
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
if last then longest = math.max(longest, last - now) end
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  if redis.call('PTTL', key) > longest then redis.call('PEXPIRE', key, whole(longest)) end
end
return 1
