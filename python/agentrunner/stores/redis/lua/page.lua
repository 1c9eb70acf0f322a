-- cursor: some of the threads there are
return redis.call('ZSCAN', own('threads'), ARGV[1], 'COUNT', 50)
