-- A heartbeat, stamped with Redis' own time; the first one registers. A node name belongs to one machine at a time.
-- KEYS  1 members  2 beats  3 the node's claim  4 own  5 stopped
-- ARGV  1 incarnation  2 who it is and how busy, JSON  3 machine id  4 how long a claim lives without a beat, ms
--       5 '1' to register, else only a member may beat
-- Reply {'OK', now ms, step keys owned, {step key owned of a plan that is being ended, its grace ms, ...}} | {'GONE'} (never registered, or reaped since) | {'TAKEN', id of the other machine}
if ARGV[5] ~= '1' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return {'GONE'}
end
local claim = redis.call('GET', KEYS[3])
if claim and claim ~= ARGV[3] then
  return {'TAKEN', claim}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- PEXPIRE is allowed when Redis is full; after it, so is the rest: whoever works on must not be taken for dead.
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%d', now), ARGV[1])
local owned = redis.call('HKEYS', KEYS[4])
local stopped = {}
if redis.call('EXISTS', KEYS[5]) == 1 then
  for _, key in ipairs(owned) do
    local grace = redis.call('HGET', KEYS[5], string.match(key, '^(.*)/%d+/%d+$'))
    if grace then
      stopped[#stopped + 1] = key
      stopped[#stopped + 1] = grace
    end
  end
end
return {'OK', now, owned, stopped}
