-- Submit plans: each is one atomic write. The same plan twice is one plan.
-- KEYS  1 inbox  2 pending  3.. for each plan: plan, parts
-- ARGV  1 most events the inbox may hold  2.. for each plan: id, event, definition, meta, number of parts
-- Reply one word a plan: 'OK', 'KNOWN', 'CONFLICT' (the id is taken by other content), 'FULL', 'INCOMPLETE' (parts expired)
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local replies = {}
local at = 2
for k = 3, #KEYS, 2 do
  local plan, parts = KEYS[k], KEYS[k + 1]
  local id, event, definition, meta, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  at = at + 5
  local known = redis.call('LINDEX', plan, 0)
  local reply = 'OK'
  if known then
    reply = known == definition and 'KNOWN' or 'CONFLICT'
  elseif room <= 0 then
    reply = 'FULL'
  elseif count > 0 and redis.call('LLEN', parts) ~= count then
    reply = 'INCOMPLETE'
  else
    if count > 0 then
      redis.call('LPUSH', parts, meta, definition)
      redis.call('RENAME', parts, plan)
      redis.call('PERSIST', plan)
    else
      redis.call('RPUSH', plan, definition, meta)
    end
    local position = redis.call('XADD', KEYS[1], '*', 'e', event)
    redis.call('HSET', KEYS[2], id, position)
    room = room - 1
  end
  replies[#replies + 1] = reply
end
return replies
