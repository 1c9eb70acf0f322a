--@ journals leases threads run_ids
-- Arguments: thread, run, token, last seq, stored, events, resume window, whether this is a retry, message ids...
local thread, run, token, last, resume = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local row, live, runs = key('thread', thread), key('live', thread), key('runs', thread)

local live_run = redis.call('HMGET', live, 'token', 'first', 'input', 'agent', 'owner', 'name')
if live_run[1] ~= token then
  -- If this is a retry, an earlier attempt whose reply was lost may have finished the run.
  local is_done = redis.call('HGET', key('run', run), 'token') == token
    or redis.call('HGET', key('run', qualify_run(thread, run)), 'token') == token
    or redis.call('HGET', row, 'ended') == token
  return ARGV[8] == '1' and is_done and 'done' or 'lost'
end
local first, agent = live_run[2], live_run[4]
run = live_run[6] or run
local existing = redis.call('HMGET', row, 'updated', 'scope', 'head')
local head = format_integer(math.max(tonumber(existing[3]) or 0, tonumber(last)))
local parent = redis.call('ZREVRANGE', runs, 0, 0)[1]

if ARGV[5] == '1' then
  -- Times never go backwards, so that the order of the list is the order of the runs.
  local at = format_integer(math.max(now(), tonumber(existing[1]) or 0))
  redis.call('HSET', key('run', run), 'thread', thread, 'first', first, 'last', last, 'events', ARGV[6],
    'input', live_run[3], 'created', at, 'token', token)
  if parent then redis.call('HSET', key('run', run), 'parent', parent) end
  local ids = {}
  for i = 9, #ARGV do ids[#ids + 1] = ARGV[i] end
  redis.call('HSET', key('run', run), 'ids', store_message_ids(thread, last, ids))
  redis.call('ZADD', runs, last, run)
  redis.call('HSET', row, 'head', head, 'updated', at, 'ended', token)
  if not parent then redis.call('HSET', row, 'created', at) end
  if agent then redis.call('HSET', row, 'agent', agent) end
  add_to_lists(thread, existing[2], at)
else
  redis.call('HSET', row, 'head', head, 'ended', token)
  redis.call('DEL', key('run', run))
  if not parent then
    -- Nothing is left of the thread: the next claim may create it in any scope. Only its last number is kept as long as
    -- its journal, so that the journal's numbers are not used again.
    remove_from_lists(thread, existing[2])
    raise_floor(thread, head)
    redis.call('HDEL', row, 'created', 'updated', 'name', 'agent', 'archived')
    redis.call('PEXPIRE', row, resume)
  end
end
redis.call('DEL', live, key('lock', thread))
redis.call('ZREM', shared_key('leases'), thread)
redis.call('SREM', shared_key('stops'), token)
remove_from_owner(thread, live_run[5])
close_journal(thread, first, resume)
publish_change(thread, '')
return 'done'
