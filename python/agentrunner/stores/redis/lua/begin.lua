--@ journals
-- thread, the run's first seq, token, ttl: makes the journal of a run whose lease is kept elsewhere
open_journal(ARGV[1], ARGV[2], ARGV[3])
redis.call('ZADD', own('open'), now() + ARGV[4], ARGV[1])
changed(ARGV[1], '')
return 1
