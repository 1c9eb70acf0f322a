local function exists(thread) return redis.call('HEXISTS', key('thread', thread), 'created') == 1 end

-- Given as '' for threads of all scopes, '=' for those that have none, '==' and a scope.
local function index(whose)
  if whose == '' then return own('threads') end
  if whose == '=' then return own('unscoped') end
  return key('scope', string.sub(whose, 3))
end

local function scoped(scope) if scope then return key('scope', scope) end return own('unscoped') end

local function list(thread, scope, at)
  redis.call('ZADD', own('threads'), at, thread)
  redis.call('ZADD', scoped(scope), at, thread)
end

local function unlist(thread, scope)
  redis.call('ZREM', own('threads'), thread)
  redis.call('ZREM', scoped(scope), thread)
end

local function summary(thread)
  local row = redis.pcall('HMGET', key('thread', thread), 'name', 'agent', 'archived', 'created', 'updated', 'scope')
  if not row[4] then return false end
  return {
    thread, row[1], row[2], row[3], redis.call('EXISTS', key('live', thread)),
    redis.call('ZCARD', key('runs', thread)), row[4], row[5], row[6],
  }
end

-- Removes a thread that has no live run, and all it has.
local function drop(thread)
  for _, run in ipairs(redis.call('ZRANGE', key('runs', thread), 0, -1)) do redis.call('UNLINK', key('run', run)) end
  drop_journals(thread)
  drop_records(thread)
  unlist(thread, redis.call('HGET', key('thread', thread), 'scope'))
  redis.call('UNLINK', key('thread', thread), key('runs', thread), key('ids', thread))
end

-- Notes which message ids a run brought; `last`, its last seq, is what tells whether a later run brought them again.
local function keep_ids(thread, last, ids)
  for _, id in ipairs(ids) do redis.call('HSET', key('ids', thread), id, last) end
  return cmsgpack.pack(ids)
end
