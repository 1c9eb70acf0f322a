-- Each is greater than all before. It is the time in microseconds, so that it is also greater than those of which a
-- replica that takes over has not heard: who holds them may still live.
local function next_token()
  local time = redis.call('TIME')
  local token = digits(math.max((tonumber(redis.call('GET', own('tokens'))) or 0) + 1, time[1] * 1000000 + time[2]))
  redis.call('SET', own('tokens'), token)
  return token
end

-- The lock of a thread, there while its lease is: `<token>-<seq of the newest entry>`.
local function lease(thread, token, seq, ttl)
  redis.call('SET', key('lock', thread), token .. '-' .. seq, 'PX', ttl)
end

-- When a lease is looked at: it may have been extended since, then it is looked at again later.
local function watch(thread, at) redis.call('ZADD', own('leases'), at, thread) end

local function take(thread, owner)
  redis.call('SADD', key('owner', owner), thread)
  redis.call('SADD', own('owners'), owner)
end

local function leave(thread, owner)
  redis.call('SREM', key('owner', owner), thread)
  if redis.call('EXISTS', key('owner', owner)) == 0 then redis.call('SREM', own('owners'), owner) end
end
