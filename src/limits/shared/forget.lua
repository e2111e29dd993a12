-- Removes all exchanges of a conversation. KEYS[1] the index; ARGV[1] what stands before a name in a key.
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  redis.call('DEL', ARGV[1] .. name)
end
return redis.call('DEL', KEYS[1])
