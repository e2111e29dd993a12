-- Remembers an exchange; the same one again changes nothing.
-- KEYS[1] the conversation's index (member: an exchange's name, score: its time), KEYS[2] the exchange;
-- ARGV: the exchange's name, its time in ms, its text, ms it may live, the time up to which exchanges are over,
-- how many are kept, what stands before a name in a key.
local name, at, text, lives = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local over, most, before = ARGV[5], tonumber(ARGV[6]), ARGV[7]
redis.call('SET', KEYS[2], text, 'PX', lives)
redis.call('ZADD', KEYS[1], at, name)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', over)
local surplus = redis.call('ZCARD', KEYS[1]) - most
if surplus > 0 then
  for _, oldest in ipairs(redis.call('ZRANGE', KEYS[1], 0, surplus - 1)) do
    redis.call('DEL', before .. oldest)
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, surplus - 1)
end
-- The index lives as long as the youngest of its exchanges.
if redis.call('PTTL', KEYS[1]) < lives then
  redis.call('PEXPIRE', KEYS[1], lives)
end
return 0
