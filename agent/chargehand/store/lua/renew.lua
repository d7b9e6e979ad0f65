-- Extend the lease, if it is still this token's. Says at which commit the data is, so that a leader with nothing
-- to commit notices too when the data has gone back in time.
-- KEYS  1 lease  2 head
-- ARGV  1 token  2 ttl, ms
-- Reply {'OK', now ms, seq} or {'LOST', now ms}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'LOST', now}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'OK', now, tonumber(redis.call('HGET', KEYS[2], 'seq') or '0')}
