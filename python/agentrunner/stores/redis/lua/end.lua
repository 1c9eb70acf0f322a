--@ journals
-- thread, the run's first seq, resume window: lets go of the journal of a run that has ended elsewhere
close_journal(ARGV[1], ARGV[2], ARGV[3])
if redis.call('ZREVRANGE', key('journals', ARGV[1]), 0, 0)[1] == ARGV[2] then
  redis.call('ZREM', own('open'), ARGV[1])
end
changed(ARGV[1], '')
return 1
