--@ journals leases
-- thread?, owner, ttl, nonce, whether tried before, limit, owners that are gone...
local only, owner, ttl, nonce, limit = given(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])
local gone, found, at = {}, {}, now()
for i = 7, #ARGV do gone[ARGV[i]] = true end

local function add(thread)
  local held = redis.call('HMGET', key('live', thread), 'run', 'token', 'first', 'input', 'agent')
  found[#found + 1] = {thread, held[1], held[2], held[3], held[4], held[5]}
end

local function take_over(thread)
  local live = key('live', thread)
  local held = redis.call('HMGET', live, 'token', 'owner', 'first', 'stop')
  if not held[1] then
    redis.call('ZREM', own('leases'), thread)
    return
  end
  local token = next_token()
  redis.call('HSET', live, 'token', token, 'owner', owner, 'nonce', nonce)
  lease(thread, token, mark_journal(thread, held[3], token), ttl)
  watch(thread, at + ttl)
  leave(thread, held[2])
  take(thread, owner)
  if held[4] then
    redis.call('SREM', own('stops'), held[1])
    redis.call('SADD', own('stops'), token)
  end
  changed(thread, '')
  add(thread)
end

-- Taken over by a first try whose answer was lost.
if ARGV[5] == '1' then
  for _, thread in ipairs(redis.call('SMEMBERS', key('owner', owner))) do
    if redis.call('HGET', key('live', thread), 'nonce') == nonce then add(thread) end
  end
end
if only then
  local held = redis.call('HGET', key('live', only), 'owner')
  if held and (gone[held] or redis.call('EXISTS', key('lock', only)) == 0) then take_over(only) end
  return found
end
for _, thread in ipairs(redis.call('ZRANGEBYSCORE', own('leases'), '-inf', at, 'LIMIT', 0, limit)) do
  local left = redis.call('PTTL', key('lock', thread))
  if left > 0 then watch(thread, at + left) else take_over(thread) end
end
for i = 7, #ARGV do
  for _, thread in ipairs(redis.call('SRANDMEMBER', key('owner', ARGV[i]), limit)) do
    if #found >= limit then return found end
    if redis.call('HGET', key('live', thread), 'owner') == ARGV[i] then take_over(thread)
    else leave(thread, ARGV[i]) end
  end
end
return found
