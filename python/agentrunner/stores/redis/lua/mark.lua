--@ journals
-- Arguments: thread, the run's first seq, token, ttl, incarnation. Fences the journal of a run that was taken over in another store.
if read_newest(journal_key(ARGV[1], ARGV[2])) ~= ARGV[3] then mark_journal(ARGV[1], ARGV[2], ARGV[3], ARGV[5]) end
redis.call('ZADD', shared_key('open'), now() + ARGV[4], ARGV[1])
publish_change(ARGV[1], '')
return 1
