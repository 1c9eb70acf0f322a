return redis.call('SMEMBERS', own('owners'))
