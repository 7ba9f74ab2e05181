-- Whether a message that came due under a name was submitted, and is known still.
-- KEYS  1 messages  2 submitted
-- ARGV  1 the name, escaped, with the sign that ends it
-- Returns 1 | 0
for _, key in ipairs(KEYS) do
  for _, id in ipairs(redis.call('HKEYS', key)) do
    if string.sub(id, 1, #ARGV[1]) == ARGV[1] then return 1 end
  end
end
return 0
