--@ journals leases threads
-- thread, run, token, last seq, stored, events, resume window, whether tried before, message ids...
local thread, run, token, last, resume = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local row, live, runs = key('thread', thread), key('live', thread), key('runs', thread)

local held = redis.call('HMGET', live, 'token', 'first', 'input', 'agent', 'owner')
if held[1] ~= token then
  -- Done by a first try whose answer was lost?
  local done = redis.call('HGET', key('run', run), 'token') == token or redis.call('HGET', row, 'ended') == token
  return ARGV[8] == '1' and done and 'done' or 'lost'
end
local first, agent = held[2], held[4]
local kept = redis.call('HMGET', row, 'updated', 'scope', 'head')
local head = digits(math.max(tonumber(kept[3]) or 0, tonumber(last)))
local parent = redis.call('ZREVRANGE', runs, 0, 0)[1]

if ARGV[5] == '1' then
  -- Times never run backwards, so that the list's order is the order of events.
  local at = digits(math.max(now(), tonumber(kept[1]) or 0))
  redis.call('HSET', key('run', run), 'thread', thread, 'first', first, 'last', last, 'events', ARGV[6],
    'input', held[3], 'created', at, 'token', token)
  if parent then redis.call('HSET', key('run', run), 'parent', parent) end
  local ids = {}
  for i = 9, #ARGV do ids[#ids + 1] = ARGV[i] end
  redis.call('HSET', key('run', run), 'ids', keep_ids(thread, last, ids))
  redis.call('ZADD', runs, last, run)
  redis.call('HSET', row, 'head', head, 'updated', at, 'ended', token)
  if not parent then redis.call('HSET', row, 'created', at) end
  if agent then redis.call('HSET', row, 'agent', agent) end
  list(thread, kept[2], at)
else
  redis.call('HSET', row, 'head', head, 'ended', token)
  redis.call('DEL', key('run', run))
  if not parent then
    -- A first run that leaves nothing leaves the thread to whoever comes next, its numbers as long as its journal.
    unlist(thread, kept[2])
    redis.call('DEL', row)
    redis.call('HSET', row, 'head', head, 'ended', token)
    redis.call('PEXPIRE', row, resume)
  end
end
redis.call('DEL', live, key('lock', thread))
redis.call('ZREM', own('leases'), thread)
redis.call('SREM', own('stops'), token)
leave(thread, held[5])
close_journal(thread, first, resume)
changed(thread, '')
return 'done'
