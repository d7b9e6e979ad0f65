-- Publish how busy the executor is and what was counted, if this is still its active orchestrator.
-- KEYS  1 fence  2 load  3 minutes  4 actions
-- ARGV  1 token  2 load, JSON  3 flow, JSON  4 minute, ms  5 its record, JSON
--       6 number of minutes that go  7 number of actions that go, then those minutes, those actions,
--       and action, its total, ... (at most 1,000 values of each)
-- Reply 1, or 0: another's token is there
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[2], 'record', ARGV[2], 'at', string.format('%d', now), 'flow', ARGV[3])
redis.call('HSET', KEYS[3], ARGV[4], ARGV[5])
local minutes = 8 + tonumber(ARGV[6])
local actions = minutes + tonumber(ARGV[7])
if minutes > 8 then
  redis.call('HDEL', KEYS[3], unpack(ARGV, 8, minutes - 1))
end
if actions > minutes then
  redis.call('HDEL', KEYS[4], unpack(ARGV, minutes, actions - 1))
end
if #ARGV >= actions then
  redis.call('HSET', KEYS[4], unpack(ARGV, actions))
end
return 1
