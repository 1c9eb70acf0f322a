--@ threads guard
-- Arguments: thread, scope?, scopes, incarnation?, whether this is a retry. Gives the thread to another scope.
local thread, scope = ARGV[1], read_optional(ARGV[2])
if not is_meant(thread, '', ARGV[4]) or not thread_exists(thread) then return 'not found' end
local row = redis.call('HMGET', key('thread', thread), 'scope', 'updated')
if not is_meant(thread, ARGV[3], '') then
  -- If this is a retry, an earlier attempt whose reply was lost may have moved it.
  return ARGV[5] == '1' and row[1] == scope and 'done' or 'not found'
end
if redis.call('EXISTS', key('live', thread)) == 1 then return 'running' end
remove_from_lists(thread, row[1])
add_to_lists(thread, scope, row[2])
if scope then redis.call('HSET', key('thread', thread), 'scope', scope)
else redis.call('HDEL', key('thread', thread), 'scope') end
return 'done'
