-- Takes one reply out of a conversation's rate: GCRA (ITU-T I.371) on the server's clock.
-- KEYS[1] the conversation; ARGV[1] microseconds between two replies, ARGV[2] how many may come at once.
-- Returns 0 when admitted, or the microseconds until the next one is due; a refusal changes nothing.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
-- The theoretical arrival time. It never lies further ahead than a burst, unless the clock went back or the settings
-- changed, and neither may shut a conversation up.
local arrival = tonumber(redis.call('GET', KEYS[1]) or now) or now
arrival = math.min(math.max(arrival, now), now + interval * burst)
local wait = arrival + interval - burst * interval - now
if wait > 0 then
  return math.ceil(wait)
end
arrival = arrival + interval
-- Not tostring: it would round to 14 digits.
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return 0
