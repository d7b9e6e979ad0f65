-- Tell what running attempts say and how far they are. Each report counts only if this incarnation owns the attempt.
-- KEYS  1 own  2.. for each report: said, progress
-- ARGV  1 most entries that a plan's `said` keeps, about  2.. for each report: step key, step number, channel,
--       progress ('' for none), number of entries, the entries
-- Reply one number a report: 1 recorded, 0 stale
local replies = {}
local at = 2
for k = 2, #KEYS, 2 do
  local owned = redis.call('HEXISTS', KEYS[1], ARGV[at])
  local last = at + 4 + tonumber(ARGV[at + 4])
  if owned == 1 then
    if ARGV[at + 3] ~= '' then
      redis.call('HSET', KEYS[k + 1], ARGV[at + 1], ARGV[at + 3])
    end
    for i = at + 5, last do
      redis.call('XADD', KEYS[k], 'MAXLEN', '~', ARGV[1], '*', 'e', ARGV[i])
    end
    redis.call('PUBLISH', ARGV[at + 2], '+')
  end
  replies[#replies + 1] = owned
  at = last + 1
end
return replies
