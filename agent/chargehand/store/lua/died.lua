-- A death notice: the process of this incarnation is gone with its whole tree. If it held the lease, at
-- whatever epoch, the lease is free; what it owned is the active orchestrator's to move.
-- KEYS  1 lease  2 inbox
-- ARGV  1 incarnation  2 channel  3 event
-- Reply 1 when the lease was released, else 0
local held = redis.call('GET', KEYS[1])
local released = held and string.match(held, ':(.*)$') == ARGV[1]
if released then
  redis.call('DEL', KEYS[1])
end
-- It changes nothing, and is allowed when Redis is full; after it, so is the rest.
redis.call('PERSIST', KEYS[2])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[3])
if released then
  redis.call('PUBLISH', ARGV[2], 'released')
  return 1
end
return 0
