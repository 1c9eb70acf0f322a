--@ journals
-- Arguments: ttl, limit. Returns threads whose journal has been open for so long that the run may have ended, each with
-- the run's first seq.
local threads, at = {}, now()
for _, thread in ipairs(redis.call('ZRANGEBYSCORE', shared_key('open'), '-inf', at, 'LIMIT', 0, ARGV[2])) do
  local first = redis.call('ZREVRANGE', key('journals', thread), 0, 0)[1]
  if first then
    threads[#threads + 1] = {thread, first}
    redis.call('ZADD', shared_key('open'), at + ARGV[1], thread)
  else
    redis.call('ZREM', shared_key('open'), thread)
  end
end
return threads
