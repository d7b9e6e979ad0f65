-- Take steps: each leaves its queue and is owned by the caller in the same move.
-- KEYS  1 members  2 own  3.. for each queue, in the caller's order: queue, alone, bell
-- ARGV  1 incarnation  2 most to start at once  3 most to prefetch beyond that  4 '1' when the caller has nothing in hand
-- Reply {'OK', step entries...: index of the queue (from 0), entry, ...} or {'GONE'} or {'ALONE'} (a step that runs
--       alone waits: take nothing more until nothing is in hand)
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return {'GONE'}
end
local free, more, idle = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local taken = {'OK'}
local function own(queue, entry)
  redis.call('HSET', KEYS[2], string.match(entry, '^!?(%S+)'), entry)
  taken[#taken + 1] = (queue - 3) / 3
  taken[#taken + 1] = entry
end
for queue = 3, #KEYS, 3 do
  if redis.call('LLEN', KEYS[queue + 1]) > 0 then
    if not idle then
      return {'ALONE'}
    end
    own(queue, redis.call('LPOP', KEYS[queue + 1]))
    return taken
  end
end
for queue = 3, #KEYS, 3 do
  if free > 0 then
    local entries = redis.call('LPOP', KEYS[queue], free)
    for _, entry in ipairs(entries or {}) do
      own(queue, entry)
      free = free - 1
      if string.byte(entry, 1) == 33 then -- '!': a suspect is in hand, so nothing is prefetched beside it
        more = 0
      end
    end
  end
  local left = redis.call('LLEN', KEYS[queue])
  if left > 0 and more > 0 then
    -- Others live from this queue too: of what is left, at most a fair share.
    local share = math.min(more, math.ceil(left / (2 * redis.call('HLEN', KEYS[1]))))
    local entries = redis.call('LPOP', KEYS[queue], share)
    for i, entry in ipairs(entries) do
      if string.byte(entry, 1) == 33 then
        for back = #entries, i, -1 do
          redis.call('LPUSH', KEYS[queue], entries[back])
        end
        break
      end
      own(queue, entry)
    end
    more = more - share
    left = redis.call('LLEN', KEYS[queue])
  end
  -- Pass the wake-up on: whoever waits next finds that there is more.
  if left > 0 and redis.call('LLEN', KEYS[queue + 2]) == 0 then
    redis.call('LPUSH', KEYS[queue + 2], '1')
  end
end
return taken
