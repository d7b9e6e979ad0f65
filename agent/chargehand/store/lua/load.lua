-- Publish how busy the executor is, if this is still its active orchestrator.
-- KEYS  1 fence  2 load
-- ARGV  1 token  2 record, JSON
-- Reply 1, or 0: another's token is there
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[2], 'record', ARGV[2], 'at', string.format('%d', now))
return 1
