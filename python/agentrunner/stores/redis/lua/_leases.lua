-- Each token is greater than all before it. It is the time in microseconds, so that it is also greater than the tokens
-- that a replica had not received when it took over: their owners may still be alive.
local function next_token()
  local time = redis.call('TIME')
  local previous = tonumber(redis.call('GET', shared_key('tokens'))) or 0
  local token = format_integer(math.max(previous + 1, time[1] * 1000000 + time[2]))
  redis.call('SET', shared_key('tokens'), token)
  return token
end

-- A thread's lock exists as long as its lease: `<token>-<seq of the newest entry>`.
local function set_lease(thread, token, seq, ttl)
  redis.call('SET', key('lock', thread), token .. '-' .. seq, 'PX', ttl)
end

-- `recover` checks a lease at this time. If it was extended meanwhile, it is checked again later.
local function schedule_check(thread, at) redis.call('ZADD', shared_key('leases'), at, thread) end

local function add_to_owner(thread, owner)
  redis.call('SADD', key('owner', owner), thread)
  redis.call('SADD', shared_key('owners'), owner)
end

local function remove_from_owner(thread, owner)
  redis.call('SREM', key('owner', owner), thread)
  if redis.call('EXISTS', key('owner', owner)) == 0 then redis.call('SREM', shared_key('owners'), owner) end
end
