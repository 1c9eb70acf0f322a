--@ journals leases threads
-- thread, run, input, agent?, scope?, owner, ttl, nonce, message ids...
local thread, run, owner, ttl, nonce = ARGV[1], ARGV[2], ARGV[6], ARGV[7], ARGV[8]
local agent, scope = given(ARGV[4]), given(ARGV[5])
local row, live = key('thread', thread), key('live', thread)

local kept = redis.call('HMGET', row, 'created', 'scope', 'head')
if kept[1] and kept[2] ~= scope then return {'not found'} end
local held = redis.call('HMGET', live, 'nonce', 'token', 'first')
if held[1] and held[1] ~= nonce then return {'running'} end

local token, first = held[2], held[3]
-- Else it is the second try of a claim whose answer was lost.
if not held[1] then
  if redis.call('EXISTS', key('run', run)) == 1 then return {'exists'} end
  local at = now()
  token = next_token()
  first = digits((tonumber(kept[3]) or 0) + 1)
  if not kept[1] then
    redis.call('DEL', row)
    redis.call('HSET', row, 'head', kept[3] or 0, 'created', at, 'updated', at)
    if agent then redis.call('HSET', row, 'agent', agent) end
    if scope then redis.call('HSET', row, 'scope', scope) end
    list(thread, scope, at)
  end
  redis.call('HSET', live, 'run', run, 'token', token, 'owner', owner, 'first', first, 'input', ARGV[3], 'nonce', nonce)
  if agent then redis.call('HSET', live, 'agent', agent) end
  redis.call('HSET', key('run', run), 'thread', thread)
  lease(thread, token, digits(first - 1), ttl)
  watch(thread, at + ttl)
  take(thread, owner)
  open_journal(thread, first, token)
  changed(thread, '')
end

local known = {}
for i = 9, #ARGV do
  if redis.call('HEXISTS', key('ids', thread), ARGV[i]) == 1 then known[#known + 1] = ARGV[i] end
end
return {'claimed', tonumber(token), tonumber(first), known}
