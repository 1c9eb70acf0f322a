--@ journals leases threads
-- Arguments: thread, run, input, agent?, scope?, owner, ttl, nonce, message ids... (`?`: optional)
local thread, run, owner, ttl, nonce = ARGV[1], ARGV[2], ARGV[6], ARGV[7], ARGV[8]
local agent, scope = read_optional(ARGV[4]), read_optional(ARGV[5])
local row, live = key('thread', thread), key('live', thread)

local existing = redis.call('HMGET', row, 'created', 'scope', 'head')
if existing[1] and existing[2] ~= scope then return {'not found'} end
local live_run = redis.call('HMGET', live, 'nonce', 'token', 'first')
if live_run[1] and live_run[1] ~= nonce then return {'running'} end

local token, first = live_run[2], live_run[3]
-- Otherwise this is the retry of a claim whose reply was lost.
if not live_run[1] then
  if redis.call('EXISTS', key('run', run)) == 1 then return {'exists'} end
  local at = now()
  token = next_token()
  first = format_integer((tonumber(existing[3]) or 0) + 1)
  if not existing[1] then
    redis.call('DEL', row)
    redis.call('HSET', row, 'head', existing[3] or 0, 'created', at, 'updated', at)
    if agent then redis.call('HSET', row, 'agent', agent) end
    if scope then redis.call('HSET', row, 'scope', scope) end
    add_to_lists(thread, scope, at)
  end
  redis.call('HSET', live, 'run', run, 'token', token, 'owner', owner, 'first', first, 'input', ARGV[3], 'nonce', nonce)
  if agent then redis.call('HSET', live, 'agent', agent) end
  redis.call('HSET', key('run', run), 'thread', thread)
  set_lease(thread, token, format_integer(first - 1), ttl)
  schedule_check(thread, at + ttl)
  add_to_owner(thread, owner)
  open_journal(thread, first, token)
  publish_change(thread, '')
end

local known = {}
for i = 9, #ARGV do
  if redis.call('HEXISTS', key('ids', thread), ARGV[i]) == 1 then known[#known + 1] = ARGV[i] end
end
return {'claimed', tonumber(token), tonumber(first), known}
