--@ journals records threads
-- Arguments: thread.
if not thread_exists(ARGV[1]) then return 'not found' end
if redis.call('EXISTS', key('live', ARGV[1])) == 1 then return 'running' end
delete_thread(ARGV[1])
return 'done'
