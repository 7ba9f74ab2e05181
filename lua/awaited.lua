-- Whether the sender of a message waits for its reply: here, or in a process that still hears bells.
-- KEYS  1 submitted
-- ARGV  1 message id  2 this process  3 bell channel prefix  4 "1" in a cluster: there no node knows
--       of all that hear, and each sender is taken to wait
-- Returns 1 | 0 all that waited are gone
--@ inbox
for listener in string.gmatch(select(7, submission(KEYS[1], ARGV[1])) or '', '[^,]+') do
  local process, request, secret, tag = string.match(listener, MEMBER)
  if process and string.find(listener, '!', 1, true) then
    if process == ARGV[2] or ARGV[4] == '1' then return 1 end
    -- It asks for the outcome, and there is none: no harm is done.
    if ring(ARGV[3], process, secret, tag, 'answered ' .. request) > 0 then return 1 end
  end
end
return 0
