--@ journals leases
-- Arguments: thread?, owner, ttl, nonce, whether this is a retry, limit, number of owners that are gone, those owners...,
-- number of owners in the caller's process, those owners..., owners whose process runs on the caller's machine...
-- Returns the runs that were taken over; and thread, token, nonce and owner of each ended lease of the caller's process.
local only_thread, owner, ttl, nonce, limit = read_optional(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])
local gone, here, running, runs, late, at = {}, {}, {}, {}, {}, now()
local last_gone = 7 + ARGV[7]
local last_here = last_gone + 1 + ARGV[last_gone + 1]
for i = 8, last_gone do gone[ARGV[i]] = true end
for i = last_gone + 2, last_here do here[ARGV[i]] = true end
for i = last_here + 1, #ARGV do running[ARGV[i]] = true end

-- Returns whether a lease that has ended is left to its owner, which is alive.
local function is_spared(thread)
  local live_run = redis.call('HMGET', key('live', thread), 'token', 'owner', 'stop', 'nonce')
  if here[live_run[2]] then late[#late + 1] = {thread, live_run[1], live_run[4], live_run[2]} end
  return here[live_run[2]] or running[live_run[2]] and not live_run[3]
end

local function add(thread)
  local live_run = redis.call('HMGET', key('live', thread), 'run', 'token', 'first', 'input', 'agent')
  local incarnation = redis.call('HGET', key('thread', thread), 'incarnation') or '-1'
  runs[#runs + 1] = {thread, live_run[1], live_run[2], live_run[3], live_run[4], live_run[5], incarnation}
end

local function take_over(thread)
  local live = key('live', thread)
  local live_run = redis.call('HMGET', live, 'token', 'owner', 'first', 'stop')
  if not live_run[1] then
    redis.call('ZREM', shared_key('leases'), thread)
    return
  end
  local token = next_token()
  redis.call('HSET', live, 'token', token, 'owner', owner, 'nonce', nonce)
  local incarnation = redis.call('HGET', key('thread', thread), 'incarnation') or '-1'
  set_lease(thread, token, mark_journal(thread, live_run[3], token, incarnation), ttl)
  schedule_check(thread, at + ttl)
  remove_from_owner(thread, live_run[2])
  add_to_owner(thread, owner)
  if live_run[4] then
    redis.call('SREM', shared_key('stops'), live_run[1])
    redis.call('SADD', shared_key('stops'), token)
  end
  publish_change(thread, '')
  add(thread)
end

-- An earlier attempt whose reply was lost has taken these over.
if ARGV[5] == '1' then
  for _, thread in ipairs(redis.call('SMEMBERS', key('owner', owner))) do
    if redis.call('HGET', key('live', thread), 'nonce') == nonce then add(thread) end
  end
end
if only_thread then
  local former = redis.call('HGET', key('live', only_thread), 'owner')
  local has_ended = former and redis.call('EXISTS', key('lock', only_thread)) == 0
  if former and (gone[former] or has_ended and not is_spared(only_thread)) then take_over(only_thread) end
  return {runs, late}
end
for _, thread in ipairs(redis.call('ZRANGEBYSCORE', shared_key('leases'), '-inf', at, 'LIMIT', 0, limit)) do
  local left = redis.call('PTTL', key('lock', thread))
  if left > 0 then schedule_check(thread, at + left)
  -- Checked again soon, but after the others: the number of checks in one call is limited.
  elseif is_spared(thread) then schedule_check(thread, at + 500)
  else take_over(thread) end
end
for i = 8, last_gone do
  for _, thread in ipairs(redis.call('SRANDMEMBER', key('owner', ARGV[i]), limit)) do
    if #runs >= limit then return {runs, late} end
    if redis.call('HGET', key('live', thread), 'owner') == ARGV[i] then take_over(thread)
    else remove_from_owner(thread, ARGV[i]) end
  end
end
return {runs, late}
