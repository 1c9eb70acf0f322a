--@ leases
-- Arguments: ttl, then thread and key of each lease: the token, or the nonce of the claim. Extends the leases, except
-- those of runs that were asked to stop: if such a run's process hangs, only the end of its lease frees the thread.
for i = 2, #ARGV, 2 do
  local live_run = redis.call('HMGET', key('live', ARGV[i]), 'token', 'nonce', 'stop')
  local is_held = (live_run[1] == ARGV[i + 1] or live_run[2] == ARGV[i + 1]) and not live_run[3]
  if is_held and redis.call('PEXPIRE', key('lock', ARGV[i]), ARGV[1]) == 0 then
    set_lease(ARGV[i], live_run[1], '', ARGV[1])
  end
end
