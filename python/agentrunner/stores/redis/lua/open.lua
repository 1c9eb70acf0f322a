--@ journals
-- ttl, limit: threads whose journal has been open for so long that its run may have ended, each with the run's first seq
local found, at = {}, now()
for _, thread in ipairs(redis.call('ZRANGEBYSCORE', own('open'), '-inf', at, 'LIMIT', 0, ARGV[2])) do
  local first = redis.call('ZREVRANGE', key('journals', thread), 0, 0)[1]
  if first then
    found[#found + 1] = {thread, first}
    redis.call('ZADD', own('open'), at + ARGV[1], thread)
  else
    redis.call('ZREM', own('open'), thread)
  end
end
return found
