-- Arguments: scan cursor. Returns the next cursor and some of the threads.
return redis.call('ZSCAN', shared_key('threads'), ARGV[1], 'COUNT', 50)
