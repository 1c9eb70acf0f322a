--@ leases
-- ttl, then thread and token, by turns
local held = {}
for i = 2, #ARGV, 2 do
  local still = redis.call('HGET', key('live', ARGV[i]), 'token') == ARGV[i + 1]
  -- Where it has ended, and nobody has taken over, it begins anew.
  if still and redis.call('PEXPIRE', key('lock', ARGV[i]), ARGV[1]) == 0 then
    lease(ARGV[i], ARGV[i + 1], '', ARGV[1])
  end
  held[#held + 1] = still and 1 or 0
end
return held
