--@ journals records threads
-- thread
if not exists(ARGV[1]) then return 'not found' end
if redis.call('EXISTS', key('live', ARGV[1])) == 1 then return 'running' end
drop(ARGV[1])
return 'done'
