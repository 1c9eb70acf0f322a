--@ leases
-- Arguments: ttl, then thread and token of each claim. Returns for each claim whether it still holds its thread.
local results = {}
for i = 2, #ARGV, 2 do
  local is_held = redis.call('HGET', key('live', ARGV[i]), 'token') == ARGV[i + 1]
  -- If the lease has ended, but no other owner has taken over, it starts again.
  if is_held and redis.call('PEXPIRE', key('lock', ARGV[i]), ARGV[1]) == 0 then
    set_lease(ARGV[i], ARGV[i + 1], '', ARGV[1])
  end
  results[#results + 1] = is_held and 1 or 0
end
return results
