-- Give back steps that were taken and not started: to the front of their queues, the same attempt.
-- KEYS  1 own  2.. for each step: list to return it to, bell
-- ARGV  for each step: step key
-- Reply how many were given back
local given = 0
for k = 2, #KEYS, 2 do
  local key = ARGV[k / 2]
  local entry = redis.call('HGET', KEYS[1], key)
  if entry then
    redis.call('HDEL', KEYS[1], key)
    redis.call('LPUSH', KEYS[k], entry)
    if redis.call('LLEN', KEYS[k + 1]) == 0 then
      redis.call('LPUSH', KEYS[k + 1], '1')
    end
    given = given + 1
  end
end
return given
