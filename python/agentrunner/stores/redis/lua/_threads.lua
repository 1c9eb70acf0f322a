local function thread_exists(thread) return redis.call('HEXISTS', key('thread', thread), 'created') == 1 end

-- The argument is '' for threads of all scopes, '=' for those without a scope, '==' and the scope for those of one.
local function index_key(scopes)
  if scopes == '' then return shared_key('threads') end
  if scopes == '=' then return shared_key('unscoped') end
  return key('scope', string.sub(scopes, 3))
end

local function scope_index_key(scope) if scope then return key('scope', scope) end return shared_key('unscoped') end

local function add_to_lists(thread, scope, at)
  redis.call('ZADD', shared_key('threads'), at, thread)
  redis.call('ZADD', scope_index_key(scope), at, thread)
end

local function remove_from_lists(thread, scope)
  redis.call('ZREM', shared_key('threads'), thread)
  redis.call('ZREM', scope_index_key(scope), thread)
end

-- The hash under which the greatest last seq of all deleted threads is kept. One entry for each deleted thread would grow
-- for ever.
local function hash_thread(thread) return string.sub(redis.sha1hex(thread), 1, 4) end

local function read_floor(thread) return tonumber(redis.call('HGET', shared_key('floors'), hash_thread(thread))) or 0 end

-- A thread that is created again under this id begins after this seq, so that no old cursor is taken for one of its own.
local function raise_floor(thread, head)
  if (tonumber(head) or 0) > read_floor(thread) then
    redis.call('HSET', shared_key('floors'), hash_thread(thread), head)
  end
end

local function read_summary(thread)
  local row = redis.pcall(
    'HMGET', key('thread', thread), 'name', 'agent', 'archived', 'created', 'updated', 'scope', 'incarnation')
  if not row[4] then return false end
  return {
    thread, row[1], row[2], row[3], redis.call('EXISTS', key('live', thread)),
    redis.call('ZCARD', key('runs', thread)), row[4], row[5], row[6],
    row[7] or '-1',
  }
end

-- Deletes a thread that has no live run, with everything it has.
local function delete_thread(thread)
  for _, run in ipairs(redis.call('ZRANGE', key('runs', thread), 0, -1)) do redis.call('UNLINK', key('run', run)) end
  drop_journals(thread)
  drop_records(thread)
  local row = redis.call('HMGET', key('thread', thread), 'scope', 'head')
  remove_from_lists(thread, row[1])
  raise_floor(thread, row[2])
  redis.call('UNLINK', key('thread', thread), key('runs', thread), key('ids', thread))
end

-- Stores the message ids that a run has. `last`, its last seq, tells `prune` whether a later run has them too.
local function store_message_ids(thread, last, ids)
  for _, id in ipairs(ids) do redis.call('HSET', key('ids', thread), id, last) end
  return cmsgpack.pack(ids)
end
