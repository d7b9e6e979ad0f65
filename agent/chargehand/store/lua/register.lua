-- Make a process known to the executor. A node name belongs to one machine at a time.
-- KEYS  1 members  2 beats  3 the node's claim
-- ARGV  1 incarnation  2 information, JSON  3 machine id  4 how long a claim lives without a beat, ms
-- Reply {'OK', now ms} or {'TAKEN', machine id of the other}
local claim = redis.call('GET', KEYS[3])
if claim and claim ~= ARGV[3] then
  return {'TAKEN', claim}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%d', now), ARGV[1])
return {'OK', now}
