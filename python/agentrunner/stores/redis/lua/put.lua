--@ journals leases threads run_ids
-- Arguments: thread, name?, agent?, archived?, scope?, created, updated; then for each run: id, first seq, last seq,
-- events, input, created, number of message ids, message ids...
local thread, scope = ARGV[1], read_optional(ARGV[5])
local row, runs = key('thread', thread), key('runs', thread)
if redis.call('EXISTS', key('live', thread)) == 1 then return {'running'} end

local new_runs, head, i = {}, tonumber(redis.call('HGET', row, 'head')) or 0, 8
while i <= #ARGV do
  local name, is_known = name_run(thread, ARGV[i])
  if not is_known then
    if tonumber(ARGV[i + 1]) <= head then return {'behind', head} end
    head = tonumber(ARGV[i + 2])
    new_runs[#new_runs + 1] = {i, name}
  end
  i = i + 7 + ARGV[i + 6]
end
local parent = redis.call('ZREVRANGE', runs, 0, 0)[1]
if not parent and #new_runs == 0 then return {'done'} end

local old = redis.call('HMGET', row, 'scope', 'created')
if not old[2] then redis.call('HSET', row, 'incarnation', next_token(), 'base', 0) end
redis.call('HSET', row, 'head', format_integer(head), 'created', ARGV[6], 'updated', ARGV[7])
redis.call('PERSIST', row)
local name, agent, archived = read_optional(ARGV[2]), read_optional(ARGV[3]), read_optional(ARGV[4])
for field, value in pairs({name = name, agent = agent, archived = archived, scope = scope}) do
  if value then redis.call('HSET', row, field, value) else redis.call('HDEL', row, field) end
end
if old[1] ~= scope then remove_from_lists(thread, old[1]) end
add_to_lists(thread, scope, ARGV[7])
for _, new_run in ipairs(new_runs) do
  local at, run = new_run[1], new_run[2]
  local last, ids = ARGV[at + 2], {}
  for k = at + 7, at + 6 + ARGV[at + 6] do ids[#ids + 1] = ARGV[k] end
  redis.call('HSET', key('run', run), 'thread', thread, 'first', ARGV[at + 1], 'last', last, 'events', ARGV[at + 3],
    'input', ARGV[at + 4], 'created', ARGV[at + 5], 'ids', store_message_ids(thread, last, ids))
  if parent then redis.call('HSET', key('run', run), 'parent', parent) end
  redis.call('ZADD', runs, last, run)
  parent = run
end
return {'done'}
