-- Keep the state at a position of the log, and forget the entries that no new replica needs any more.
--
-- KEYS  the head, the log, the state
-- ARGV  1 epoch; 2 position, 3 token and 4 body of the state; 5 the position of the oldest entry that is needed

if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'position', ARGV[2], 'token', ARGV[3], 'body', ARGV[4])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[5] .. '-0')
return 1
