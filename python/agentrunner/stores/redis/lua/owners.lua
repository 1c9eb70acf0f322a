return redis.call('SMEMBERS', shared_key('owners'))
