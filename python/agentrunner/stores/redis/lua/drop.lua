--@ journals
-- Arguments: thread. Deletes the journals of a thread that was deleted in another store.
drop_journals(ARGV[1])
redis.call('ZREM', shared_key('open'), ARGV[1])
return 1
