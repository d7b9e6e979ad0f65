-- Extend the lease, if it is still this token's.
-- KEYS  1 lease
-- ARGV  1 token  2 ttl, ms
-- Reply {'OK', now ms} or {'LOST', now ms}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'LOST', now}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'OK', now}
