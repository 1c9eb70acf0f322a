-- thread?
local thread = given(ARGV[1])
local found = {}
for _, one in ipairs(thread and {thread} or redis.call('ZRANGE', own('leases'), 0, -1)) do
  local held = redis.call('HMGET', key('live', one), 'run', 'token', 'first', 'input', 'agent', 'stop', 'owner')
  if held[1] then
    held[6] = held[6] and 1 or 0
    held[8] = redis.call('EXISTS', key('lock', one))
    table.insert(held, 1, one)
    found[#found + 1] = held
  end
end
return found
