--@ journals records threads guard
-- Arguments: thread, scopes, incarnation?.
if not is_meant(ARGV[1], ARGV[2], ARGV[3]) or not thread_exists(ARGV[1]) then return 'not found' end
if redis.call('EXISTS', key('live', ARGV[1])) == 1 then return 'running' end
delete_thread(ARGV[1])
return 'done'
