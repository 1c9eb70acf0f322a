--@ journals
-- Arguments: thread, the run's first seq, token, ttl, incarnation. Creates the journal of a run whose lease is in another store.
open_journal(ARGV[1], ARGV[2], ARGV[3], ARGV[5])
redis.call('ZADD', shared_key('open'), now() + ARGV[4], ARGV[1])
publish_change(ARGV[1], '')
return 1
