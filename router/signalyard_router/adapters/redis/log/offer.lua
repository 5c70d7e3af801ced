-- Say how far one knows a log that was lost; the answer is 1 where nobody who said so within the last two seconds knows it further.
--
-- KEYS  the offers
-- ARGV  1 who, 2 how far: text of a fixed width, which compares as what it stands for

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local offers = redis.call('HGETALL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%016.0f', now) .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], 60000)
for index = 2, #offers, 2 do
  local at, known = string.match(offers[index], '^(%d+) (.*)$')
  if offers[index - 1] ~= ARGV[1] and now - at < 2000000 and known > ARGV[2] then
    return 0
  end
end
return 1
