--@ journals leases
-- Arguments: thread, the run's first seq, token, seq before the first frame, last seq, frames, ttl (0: the lease is in
-- another store). Returns 'kept'; 'lost' if the lease is lost; 'gap' if the batch does not follow the last entry.
local thread, token, before, last, ttl = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local stream = journal_key(thread, ARGV[2])
local is_repeated = false
-- The server may have removed keys, by eviction or by a command: nothing more may be shown of a run that it no longer has.
if ttl ~= '0' and redis.call('EXISTS', key('live', thread), key('thread', thread)) < 2 then return 'lost' end
-- The lock has the last writer and its last seq. Only if it differs, the stream must be read.
if ttl == '0' or redis.call('GET', key('lock', thread)) ~= token .. '-' .. before then
  local owner, seq = read_newest(stream)
  if owner ~= token or seq == CLOSED then return 'lost' end
  -- An earlier attempt whose reply was lost has appended it.
  is_repeated = seq == last
  if not is_repeated and seq ~= before then return 'gap' end
end
if not is_repeated then
  local is_added = redis.call('XADD', stream, 'NOMKSTREAM', token .. '-' .. last, 'after', before, 'frames', ARGV[6])
  if not is_added then return 'gap' end
end
if ttl ~= '0' then set_lease(thread, token, last, ttl) end
publish_change(thread, last)
return 'kept'
