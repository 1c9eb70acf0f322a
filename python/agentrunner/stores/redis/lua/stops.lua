return redis.call('SMEMBERS', own('stops'))
