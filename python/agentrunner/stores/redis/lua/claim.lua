--@ journals leases threads run_ids known_ids
-- Arguments: thread, run, input, agent?, scope?, owner, ttl, nonce, message ids... (`?`: optional)
local thread, run, owner, ttl, nonce = ARGV[1], ARGV[2], ARGV[6], ARGV[7], ARGV[8]
local agent, scope = read_optional(ARGV[4]), read_optional(ARGV[5])
local row, live = key('thread', thread), key('live', thread)

local existing = redis.call('HMGET', row, 'created', 'scope', 'head', 'incarnation', 'base')
if existing[1] and existing[2] ~= scope then return {'not found'} end
local live_run = redis.call('HMGET', live, 'nonce', 'token', 'first')
if live_run[1] and live_run[1] ~= nonce then return {'running'} end

local token, first, incarnation = live_run[2], live_run[3], existing[4]
-- Otherwise this is the retry of a claim whose reply was lost.
if not live_run[1] then
  local name, is_used = name_run(thread, run)
  if is_used then return {'exists'} end
  local at = now()
  token = next_token()
  local head = tonumber(existing[3]) or 0
  if not existing[1] then
    head = math.max(head, read_floor(thread))
    -- A run that was not stored ended no life of the thread: its readers continue with the next run of their scope.
    local base = existing[5]
    if not incarnation or existing[2] ~= scope then incarnation, base = token, format_integer(head) end
    redis.call('DEL', row)
    redis.call('HSET', row, 'head', format_integer(head), 'created', at, 'updated', at, 'incarnation', incarnation,
      'base', base or 0)
    if agent then redis.call('HSET', row, 'agent', agent) end
    if scope then redis.call('HSET', row, 'scope', scope) end
    add_to_lists(thread, scope, at)
  end
  first = format_integer(head + 1)
  redis.call('HSET', live, 'run', run, 'name', name, 'token', token, 'owner', owner, 'first', first, 'input', ARGV[3], 'nonce', nonce)
  if agent then redis.call('HSET', live, 'agent', agent) end
  redis.call('HSET', key('run', name), 'thread', thread)
  set_lease(thread, token, format_integer(first - 1), ttl)
  schedule_check(thread, at + ttl)
  add_to_owner(thread, owner)
  open_journal(thread, first, token, incarnation or '-1')
  publish_change(thread, '')
end

return {'claimed', tonumber(token), tonumber(first), read_known_ids(thread, 9), incarnation or '-1'}
