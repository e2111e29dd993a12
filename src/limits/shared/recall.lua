-- The exchanges of a conversation, oldest first. KEYS[1] the index;
-- ARGV: the time up to which exchanges are over, what stands before a name in a key.
local found = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')) do
  local text = redis.call('GET', ARGV[2] .. name)
  if text then
    found[#found + 1] = text
  end
end
return found
