--@ guard
-- Arguments: thread, run?, nonce, scopes, incarnation?. Returns 1 if this call has marked the live run.
if not is_meant(ARGV[1], ARGV[4], ARGV[5]) then return 0 end
local live = key('live', ARGV[1])
local run = read_optional(ARGV[2])
local live_run = redis.call('HMGET', live, 'run', 'token', 'stop')
if not live_run[1] or (run and run ~= live_run[1]) then return 0 end
-- The nonce tells a retry of this request, whose reply was lost, from another request.
if live_run[3] then return live_run[3] == ARGV[3] and 1 or 0 end
redis.call('HSET', live, 'stop', ARGV[3])
redis.call('SADD', shared_key('stops'), live_run[2])
publish_change(ARGV[1], '')
return 1
