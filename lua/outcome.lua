-- What has become of a message that was submitted.
-- KEYS  1 holder  2 queue  3 messages  4 expiries  5 submitted
-- ARGV  1 message id  2 a listener to add while it is not finished ("": none); the bell
--       "answered <request>" rings then
-- Returns {"d" | "e" | "x" | "v", text} finished: replied, failed, dead, withdrawn
--       | {"r", number, fence, attempts} its turn runs | {"q", number, turns before it, attempts}
--       it waits | {"u"} unknown
--@ inbox messages
local id = ARGV[1]
local number, granted, attempts, begun, since, mode, listeners = submission(KEYS[5], id)
if number then
  local heard = with_listener(listeners, ARGV[2])
  if heard ~= listeners then
    first_write(KEYS[5])
    redis.call('HSET', KEYS[5], id,
      submission_text(number, granted, attempts, begun, since, mode, heard))
  end
  local fence, serving, _, lease = turn(KEYS[1])
  local held = lease and tonumber(lease) > clock()
  if held and (serving == number or string.match(mode, '^carried:(%d+)') == fence) then
    return {'r', tonumber(number), tonumber(fence), tonumber(attempts)}
  end
  local before = redis.call('ZCOUNT', KEYS[2], '-inf', '(' .. number)
  return {'q', tonumber(number), before + (held and 1 or 0), tonumber(attempts)}
end
local state, _, _, text = record(KEYS[3], id)
if state and string.find('dexv', state, 1, true) and kept(KEYS[4], id, clock()) then
  return {state, select(3, tried(state, text)) or text}
end
return {'u'}
