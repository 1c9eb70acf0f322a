-- Arguments: address.
return redis.call('HMGET', key('record', ARGV[1]), 'thread', 'version', 'value')
