-- Arguments: run, parent. Sets the run's parent.
redis.call('HSET', key('run', ARGV[1]), 'parent', ARGV[2])
return 1
