--@ journals
-- thread: removes the journals of a thread that was removed elsewhere
drop_journals(ARGV[1])
redis.call('ZREM', own('open'), ARGV[1])
return 1
