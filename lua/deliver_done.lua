-- Remove a delivery that was sent, or set it apart as a dead letter; the lease goes on while more
-- waits. deliver_take.lua has the keys.
-- KEYS  1 deliveries  2 sender  3 dead letters
-- ARGV  1 process  2 lease ms  3 SHA-1 of the delivery, in hex
--       then for a dead letter: 4 its text  5 dead letters at most  6 ms for which they are kept
-- Returns {how many wait now, how many dead letters were dropped}
--       | {-1, 0} another process sends, or the delivery is not the head: nothing was done
--@ holder delivering
local head = redis.call('LINDEX', KEYS[1], 0)
if sender(KEYS[2]) ~= ARGV[1] or not head or redis.sha1hex(head) ~= ARGV[3] then return {-1, 0} end
redis.call('LPOP', KEYS[1])  -- it needs no memory, so that what follows is not denied any
local left, dropped = redis.call('LLEN', KEYS[1]), 0
if left == 0 then redis.call('DEL', KEYS[2])
else lease(KEYS[2], ARGV[1], clock() + ARGV[2], 0, 0) end
if ARGV[4] then
  dropped = math.max(0, redis.call('RPUSH', KEYS[3], ARGV[4]) - ARGV[5])
  redis.call('LTRIM', KEYS[3], dropped, -1)
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
return {left, dropped}
