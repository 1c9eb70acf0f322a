--@ journals
-- Arguments: thread, the run's first seq, resume window. Closes the journal of a run that has ended in another store.
close_journal(ARGV[1], ARGV[2], ARGV[3])
if redis.call('ZREVRANGE', key('journals', ARGV[1]), 0, 0)[1] == ARGV[2] then
  redis.call('ZREM', shared_key('open'), ARGV[1])
end
publish_change(ARGV[1], '')
return 1
