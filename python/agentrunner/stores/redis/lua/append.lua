--@ journals leases
-- thread, the run's first seq, token, seq before the first frame, last seq, frames, ttl (0: the lease is kept elsewhere)
local thread, token, before, last, ttl = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[7]
local stream = journal(thread, ARGV[2])
local there = false
-- The lock says who wrote last, and how far; where it does not, the stream does.
if ttl == '0' or redis.call('GET', key('lock', thread)) ~= token .. '-' .. before then
  local owner, seq = newest(stream)
  if owner ~= token or seq == CLOSED then return 'lost' end
  -- By a first try whose answer was lost.
  there = seq == last
  if not there and seq ~= before then return 'gap' end
end
if not there then redis.call('XADD', stream, 'NOMKSTREAM', token .. '-' .. last, 'after', before, 'frames', ARGV[6]) end
if ttl ~= '0' then lease(thread, token, last, ttl) end
changed(thread, last)
return 'kept'
