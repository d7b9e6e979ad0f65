-- Take the lease if it is free, or held by this same incarnation (the reply of an earlier try was lost).
-- KEYS  1 lease  2 fence  3 holder
-- ARGV  1 incarnation  2 ttl, ms  3 highest epoch seen by the caller  4 node
-- Reply {'ACQUIRED', token, now ms} or {'HELD', token, ms left, node, since ms}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('GET', KEYS[1])
if held and string.match(held, ':(.*)$') ~= ARGV[1] then
  local holder = redis.call('HMGET', KEYS[3], 'node', 'since')
  return {'HELD', held, redis.call('PTTL', KEYS[1]), holder[1] or '', holder[2] or '0'}
end
local stored = redis.call('GET', KEYS[2])
local epoch = stored and tonumber(string.match(stored, '^(%d+):')) or 0
epoch = math.max(epoch, tonumber(ARGV[3])) + 1
local token = string.format('%d:%s', epoch, ARGV[1])
-- DEL is allowed when Redis is full; after it, so is the rest.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
redis.call('SET', KEYS[2], token)
redis.call('HSET', KEYS[3], 'node', ARGV[4], 'since', string.format('%d', now))
return {'ACQUIRED', token, now}
