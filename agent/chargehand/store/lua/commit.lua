-- One turn of the active orchestrator: all of it, or nothing.
-- KEYS  1 lease  2 fence  3 head  4 inbox  5.. what the conditions and operations name
-- ARGV  1 token  2 seq that the turn was decided on  3 ttl, ms  4 new position ('' keeps it)
--       5 first id of the inbox to keep ('' keeps all)  6 number of conditions, then that many
--       conditions, then operations; each is: name, index into KEYS (0: none), count, count arguments
-- Conditions  ABSENT key        the key does not exist
--             OWNS key fields   the hash has these fields and no others
--             BEAT key member score   the member's score is still this
-- Operations  a Redis command, or RING key n: wake up to n waiting workers
-- Reply {'OK', now ms} | {'FENCED', fence} | {'LAPSED'} | {'DIVERGED', seq} | {'CHANGED', key}
local fence = redis.call('GET', KEYS[2])
if fence ~= ARGV[1] then
  return {'FENCED', fence or ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seq = tonumber(redis.call('HGET', KEYS[3], 'seq') or '0')
local decided_on = tonumber(ARGV[2])
if seq ~= decided_on then
  return {'DIVERGED', string.format('%d', seq)}
end
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  local name, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  local holds
  if name == 'ABSENT' then
    holds = redis.call('EXISTS', key) == 0
  elseif name == 'OWNS' then
    holds = redis.call('HLEN', key) == count
    for i = at, at + count - 1 do
      holds = holds and redis.call('HEXISTS', key, ARGV[i]) == 1
    end
  elseif name == 'BEAT' then
    local score = redis.call('ZSCORE', key, ARGV[at])
    holds = score and tonumber(score) == tonumber(ARGV[at + 1])
  end
  if not holds then
    return {'CHANGED', key}
  end
  at = at + count
end
-- PEXPIRE is allowed when Redis is full; after it, so is the rest.
if redis.call('PEXPIRE', KEYS[1], ARGV[3]) == 0 then
  return {'LAPSED'}
end
redis.call('HSET', KEYS[3], 'seq', string.format('%d', seq + 1))
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], 'position', ARGV[4])
end
if ARGV[5] ~= '' then
  redis.call('XTRIM', KEYS[4], 'MINID', ARGV[5])
end
local last = #ARGV
while at <= last do
  local name, key, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local first = at + 3
  at = first + count
  if name == 'RING' then
    local rings = math.min(tonumber(ARGV[first]), 16) - redis.call('LLEN', KEYS[key])
    for _ = 1, rings do
      redis.call('LPUSH', KEYS[key], '1')
    end
  elseif key == 0 then
    redis.call(name, unpack(ARGV, first, at - 1))
  else
    redis.call(name, KEYS[key], unpack(ARGV, first, at - 1))
  end
end
return {'OK', now}
