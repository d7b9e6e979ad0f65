-- Take plans back that the orchestrator has not accepted: they go to other executors.
-- KEYS  1 head  2 inbox  3 pending  4.. for each plan: plan, states, moving
-- ARGV  1 how long a plan is kept on its way, s  2.. for each plan: id, the executor that it goes to
-- Reply one word a plan: 'WITHDRAWN', 'ACCEPTED' (it stays), 'UNKNOWN' (there is none of this id)
local replies = {}
local withdrawn = false
local at = 2
for k = 4, #KEYS, 3 do
  local plan, states, moving = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local id, executor = ARGV[at], ARGV[at + 1]
  at = at + 2
  local position = redis.call('HGET', KEYS[3], id)
  local reply = 'WITHDRAWN'
  if redis.call('EXISTS', plan) == 0 then
    reply = 'UNKNOWN'
  elseif not position or redis.call('EXISTS', states) == 1 then
    reply = 'ACCEPTED' -- or nobody knows where its event stands
  else
    -- HDEL is allowed when Redis is full; after it, so is the rest.
    redis.call('HDEL', KEYS[3], id)
    redis.call('XDEL', KEYS[2], position)
    redis.call('RENAME', plan, moving)
    redis.call('LPUSH', moving, executor)
    redis.call('EXPIRE', moving, ARGV[1])
    withdrawn = true
  end
  replies[#replies + 1] = reply
end
if withdrawn then
  -- An orchestrator may have read those events: its next commit finds another number, and it reads again what is there.
  local seq = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
  redis.call('HSET', KEYS[1], 'seq', string.format('%d', seq + 1))
end
return replies
