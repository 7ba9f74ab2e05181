-- Remove a dead letter of a delivery, or let it be sent again, behind those that wait.
-- KEYS  1 dead letters of deliveries  2 deliveries  3 the inbox's index (not in a cluster)
-- ARGV  1 SHA-1 of the letter, in hex  2 conversation  3 the delivery to send again; "": none
-- Returns 1 done | 0 there is no letter of it
for _, letter in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if redis.sha1hex(letter) == ARGV[1] then
    redis.call('LREM', KEYS[1], 1, letter)
    if ARGV[3] ~= '' then
      redis.call('RPUSH', KEYS[2], ARGV[3])
      local t = redis.call('TIME')
      local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
      if KEYS[3] then redis.call('ZADD', KEYS[3], 'NX', now, ARGV[2]) end
    end
    return 1
  end
end
return 0
