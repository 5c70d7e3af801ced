-- Begin a new epoch with nothing but a state, in the place of the log that stands where the caller last saw it. 1, or 0 where it does not
-- stand there any more.
--
-- KEYS  the head, the log, the state, the offers
-- ARGV  1 epoch, 2 position and 3 token of the place before, three times "" where there was none; 4 epoch, 5 position, 6 token, 7 the
--       time from which signals may be held, 8 the clock; 9 the state

local head = redis.call('HMGET', KEYS[1], 'epoch', 'position', 'token')
if (head[1] or '') ~= ARGV[1] or (head[2] or '') ~= ARGV[2] or (head[3] or '') ~= ARGV[3] then
  return 0
end
local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

redis.call('DEL', KEYS[1], KEYS[2], KEYS[4])
redis.call('HSET', KEYS[3], 'epoch', ARGV[4], 'position', ARGV[5], 'token', ARGV[6], 'body', ARGV[9])
redis.call('HSET', KEYS[1], 'epoch', ARGV[4], 'position', ARGV[5], 'token', ARGV[6], 'held', ARGV[7], 'clock', ARGV[8],
  'server', server)
return 1
