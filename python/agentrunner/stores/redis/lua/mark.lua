--@ journals
-- thread, the run's first seq, token, ttl: fences the journal of a run that was taken over elsewhere
if newest(journal(ARGV[1], ARGV[2])) ~= ARGV[3] then mark_journal(ARGV[1], ARGV[2], ARGV[3]) end
redis.call('ZADD', own('open'), now() + ARGV[4], ARGV[1])
changed(ARGV[1], '')
return 1
