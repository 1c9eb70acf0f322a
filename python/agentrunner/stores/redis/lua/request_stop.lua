-- thread, run?, nonce
local live = key('live', ARGV[1])
local run = given(ARGV[2])
local held = redis.call('HMGET', live, 'run', 'token', 'stop')
if not held[1] or (run and run ~= held[1]) then return 0 end
-- The nonce tells the second try of a request whose answer was lost from a second request.
if held[3] then return held[3] == ARGV[3] and 1 or 0 end
redis.call('HSET', live, 'stop', ARGV[3])
redis.call('SADD', own('stops'), held[2])
changed(ARGV[1], '')
return 1
