-- Try every command that turns may need, without an effect: a user who may not run one of them
-- is to know at once, not in the middle of a turn.
-- KEYS  1 a key of the store that nothing else uses
-- ARGV  1 a bell channel on which nothing listens
-- Returns what is refused, each as "<command>: <the server's words>"
local key = KEYS[1]
local tries = {
  {'DEL', key}, {'TIME'}, {'GET', key}, {'INCR', key}, {'SET', key, '0', 'PX', '1000'},
  {'PEXPIRE', key, '1000'}, {'PTTL', key}, {'EXISTS', key}, {'DEL', key},
  {'HSET', key, 'f', ''}, {'HGET', key, 'f'}, {'HRANDFIELD', key, '1'}, {'HMGET', key, 'f'}, {'HGETALL', key},
  {'HLEN', key}, {'HKEYS', key}, {'HEXISTS', key, 'f'}, {'HINCRBY', key, 'n', '1'},
  {'PERSIST', key}, {'HDEL', key, 'f'}, {'DEL', key},
  {'RPUSH', key, 'e'}, {'LLEN', key}, {'LINDEX', key, '0'}, {'LRANGE', key, '0', '-1'},
  {'LTRIM', key, '0', '0'}, {'LREM', key, '0', 'x'}, {'LPOP', key}, {'DEL', key},
  {'ZADD', key, '1', 'm'}, {'ZSCORE', key, 'm'}, {'ZCARD', key}, {'ZCOUNT', key, '0', '1'},
  {'ZRANGE', key, '0', '-1'}, {'ZRANGEBYSCORE', key, '0', '1'}, {'ZREM', key, 'm'},
  {'ZREMRANGEBYSCORE', key, '0', '1'}, {'ZPOPMIN', key}, {'DEL', key},
  {'PUBLISH', ARGV[1], ''},
}
local refused, listed = {}, {}
for _, try in ipairs(tries) do
  local answer = redis.pcall(unpack(try))
  local text = type(answer) == 'table' and answer.err
  -- Only refusals are returned: other errors, as that of a full memory, come and go.
  if text and not listed[try[1]] and (string.find(text, 'The user executing the script', 1, true)
      or string.find(text, 'ACL failure in script', 1, true)) then
    listed[try[1]] = true
    refused[#refused + 1] = string.lower(try[1]) .. ': ' .. text
    if try[1] == 'DEL' then return refused end  -- else the others would leave something
  end
end
return refused
