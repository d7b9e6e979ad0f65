-- Finish attempts. Each counts only if this incarnation still owns this step and attempt.
-- KEYS  1 own  2 inbox  3.. for each attempt: the plan's outputs
-- ARGV  for each attempt: step key, field of the outputs, result for it ('' for none), field that goes ('' for none), event
-- Reply one number an attempt: 1 recorded, 0 stale
-- HDEL comes first: it is allowed when Redis is full, and after it the rest is.
local replies = {}
for k = 3, #KEYS do
  local at = (k - 3) * 5
  local owned = redis.call('HDEL', KEYS[1], ARGV[at + 1])
  if owned == 1 then
    if ARGV[at + 3] ~= '' then
      redis.call('HSET', KEYS[k], ARGV[at + 2], ARGV[at + 3])
    end
    if ARGV[at + 4] ~= '' then
      redis.call('HDEL', KEYS[k], ARGV[at + 4])
    end
    redis.call('XADD', KEYS[2], '*', 'e', ARGV[at + 5])
  end
  replies[#replies + 1] = owned
end
return replies
