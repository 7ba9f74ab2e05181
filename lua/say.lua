-- Tell who listens in other processes what a turn says before it is stored. Bells can be lost: the
-- outcome has all replies.
-- KEYS  1 holder  2 submitted
-- ARGV  1 member of the turn  2 fence  3 bell channel prefix  4 message id
--       5 index of the first reply  6 the replies, a JSON list
-- Returns how many bells were rung; -1 when the turn is another's
--@ inbox
local MOST = 16  -- listeners, the newest: each gets the text, signed
local fence, _, member = turn(KEYS[1])
if fence ~= ARGV[2] or member ~= ARGV[1] then return -1 end
local own, told, listeners = string.match(member, '^%w+'), 0, {}
for listener in string.gmatch(select(7, submission(KEYS[2], ARGV[4])) or '', '[^,]+') do
  if string.find(listener, HEARS, 1, true) then table.insert(listeners, 1, listener) end
end
for _, listener in ipairs(listeners) do
  local process, request, secret, tag = string.match(listener, MEMBER)
  if process and process ~= own and told < MOST then
    ring(ARGV[3], process, secret, tag,
      table.concat({'said', request, fence, ARGV[5], ARGV[6]}, ' '))
    told = told + 1
  end
end
return told
