-- Guards. `scopes` is '' for any scope, '=' for none, '==' and the scope for one; `incarnation` is optional.
local function is_meant(thread, scopes, incarnation)
  incarnation = read_optional(incarnation)
  if scopes == '' and not incarnation then return true end
  local row = redis.call('HMGET', key('thread', thread), 'head', 'scope', 'incarnation')
  -- Threads of version 0.1.0 have no incarnation.
  if not row[1] or incarnation and (row[3] or '-1') ~= incarnation then return false end
  return scopes == '' or scopes == (row[2] and '==' .. row[2] or '=')
end
