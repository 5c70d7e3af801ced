-- Append one entry behind the place that it was settled on, and give its signals out: all of it or nothing.
--
-- KEYS  the head, the log, the signals, the ears: who wants to hear of entries
-- ARGV  1 epoch, 2 position and 3 token of the place; 4 position, 5 token and 6 body of the entry; 7 who appends; 8 "1" to
--       have the next turn; 9 the server's time in microseconds after which nobody waits for it; 10 how long a turn is, in
--       microseconds; 11 about how many signals to keep; 12 what the ears' channels begin with; from 13 on the signals
--
-- Times of journals, positions and epochs are text here and never numbers: Lua's numbers would lose nanoseconds. The server's own
-- microseconds fit. Everything is read and judged before the first write, for a script is not rolled back.

local head = redis.call('HMGET', KEYS[1], 'epoch', 'position', 'token', 'server', 'turn', 'until')
if head[1] ~= ARGV[1] or not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. head[4], 1, true) then
  return 'lost'
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now > tonumber(ARGV[9]) then
  return 'late'
end

local turn = head[5] and now < tonumber(head[6]) and head[5]
if head[2] ~= ARGV[2] or head[3] ~= ARGV[3] then
  if ARGV[8] == '1' and not turn then
    redis.call('HSET', KEYS[1], 'turn', ARGV[7], 'until', string.format('%.0f', now + ARGV[10]))
  end
  if head[2] == ARGV[2] then
    return 'lost'
  end
  return 'behind'
end
if turn and turn ~= ARGV[7] then
  return 'wait'
end

redis.call('XADD', KEYS[2], ARGV[4] .. '-0', 'token', ARGV[5], 'body', ARGV[6])
for index = 13, #ARGV do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[11], '*', 'v', '1', 'signal', ARGV[index])
end
redis.call('HSET', KEYS[1], 'position', ARGV[4], 'token', ARGV[5])
if head[5] then
  redis.call('HDEL', KEYS[1], 'turn', 'until')
end
-- Whoever appends has the entry, and the answer tells it the rest: a copy would cost the server and the reader a tenth of their time.
local told
for _, ear in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  if ear ~= ARGV[7] then
    told = told or ARGV[1] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. ARGV[6]
    if redis.call('PUBLISH', ARGV[12] .. ear, told) == 0 then
      redis.call('SREM', KEYS[4], ear)
    end
  end
end
return 'done'
