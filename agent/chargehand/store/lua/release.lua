-- Give the lease back, if it is still this token's, and wake those who wait for it.
-- KEYS  1 lease
-- ARGV  1 token  2 channel
-- Reply 1 when released, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'released')
return 1
