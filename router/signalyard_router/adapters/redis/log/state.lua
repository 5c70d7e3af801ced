-- How the log stands: epoch, position, token, the time from which signals may be held, the clock, whether this is the server that the
-- epoch began on; then the server's time, seconds and microseconds. Without a log only the time.
--
-- KEYS  the head

local head = redis.call('HMGET', KEYS[1], 'epoch', 'position', 'token', 'held', 'clock', 'server')
local time = redis.call('TIME')
if not head[1] then
  return {time[1], time[2]}
end
local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
return {time[1], time[2], head[1], head[2], head[3], head[4], head[5], head[6] == server and '1' or '0'}
