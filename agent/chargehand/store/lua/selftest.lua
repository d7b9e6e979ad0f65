-- Which of these commands may this user not run? Each is tried on one key that is gone afterwards; all that counts is
-- whether it is refused for lack of a right.
-- KEYS  1 a key of this executor  2 another
-- ARGV  1 a channel of this executor  2.. for each command: name, number of arguments, arguments
-- Reply the names of those that are refused, and their reasons, one after the other
local refused = {}
local function try(name, ...)
  local reply = redis.pcall(name, ...)
  local why = type(reply) == 'table' and reply['err'] or ''
  -- In the words of 7.2 and Valkey, and of those before.
  if string.find(why, 'permission', 1, true) or string.find(why, 'user executing the script', 1, true) then
    refused[#refused + 1] = name
    refused[#refused + 1] = why
  end
end
local at = 2
while at <= #ARGV do
  local name, count = ARGV[at], tonumber(ARGV[at + 1])
  try(name, unpack(ARGV, at + 2, at + 1 + count))
  at = at + 2 + count
end
try('PUBLISH', ARGV[1], '')
redis.pcall('DEL', KEYS[1], KEYS[2])
return refused
