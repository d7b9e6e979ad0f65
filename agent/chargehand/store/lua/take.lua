-- Take steps: each leaves its queue and is owned by the caller in the same move.
-- Entries of plans that are being ended are dropped, but for those marked '~' of plans that are not halted (-1).
-- KEYS  1 members  2 own  3 stopped  4.. for each queue, in the caller's order: queue, alone, bell
-- ARGV  1 incarnation  2 most to start at once  3 most to prefetch beyond that  4 '1' when the caller has nothing in hand
-- Reply {'OK', step entries...: index of the queue (from 0), entry, ...} or {'GONE'} or {'ALONE'} (a step that runs
--       alone waits: take nothing more until nothing is in hand)
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return {'GONE'}
end
local free, more, idle = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local taken = {'OK'}
local stops = redis.call('EXISTS', KEYS[3]) == 1
local function own(queue, entry)
  local mark, key = string.match(entry, '^([~!]*)(%S+)')
  local grace = stops and redis.call('HGET', KEYS[3], string.match(key, '^(.*)/%d+/%d+$'))
  if grace and (grace == '-1' or string.byte(entry, 1) ~= 126) then -- '~'
    return false
  end
  redis.call('HSET', KEYS[2], key, entry)
  taken[#taken + 1] = (queue - 4) / 3
  taken[#taken + 1] = entry
  return true, string.find(mark, '!', 1, true) ~= nil
end
for queue = 4, #KEYS, 3 do
  while redis.call('LLEN', KEYS[queue + 1]) > 0 do
    if not idle then
      return {'ALONE'}
    end
    if own(queue, redis.call('LPOP', KEYS[queue + 1])) then
      return taken
    end
  end
end
for queue = 4, #KEYS, 3 do
  -- At most so many are dropped at once: the next take goes on.
  local tries = 100
  while free > 0 and tries > 0 do
    local entries = redis.call('LPOP', KEYS[queue], free)
    if not entries then
      break
    end
    for _, entry in ipairs(entries) do
      local owned, suspect = own(queue, entry)
      if owned then
        free = free - 1
      else
        tries = tries - 1
      end
      if suspect then -- one is in hand, so nothing is prefetched beside it
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
      if string.find(entry, '^~?!') then
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
