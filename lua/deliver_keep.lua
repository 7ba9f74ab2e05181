-- Renew the lease of a conversation's deliveries, or let them wait to be tried again by any process that
-- looks then. deliver_take.lua has the keys.
-- KEYS  1 sender
-- ARGV  1 process  2 process, or "-": it waits  3 ms from now  4 tries  5 parts that were sent
-- Returns 1 | 0 another process has it, or none
--@ holder delivering
if sender(KEYS[1]) ~= ARGV[1] then return 0 end
lease(KEYS[1], ARGV[2], clock() + ARGV[3], ARGV[4], ARGV[5])
return 1
