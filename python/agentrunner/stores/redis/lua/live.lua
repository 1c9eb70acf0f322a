-- Arguments: thread?. Returns the live runs, each with whether it is to be stopped, its owner, whether its lock
-- exists, and its thread's incarnation.
local thread = read_optional(ARGV[1])
local runs = {}
for _, name in ipairs(thread and {thread} or redis.call('ZRANGE', shared_key('leases'), 0, -1)) do
  local run = redis.call('HMGET', key('live', name), 'run', 'token', 'first', 'input', 'agent', 'stop', 'owner')
  if run[1] then
    run[6] = run[6] and 1 or 0
    run[8] = redis.call('EXISTS', key('lock', name))
    run[9] = redis.call('HGET', key('thread', name), 'incarnation') or '-1'
    table.insert(run, 1, name)
    runs[#runs + 1] = run
  end
end
return runs
