--@ journals guard
-- Arguments: thread, seq, scopes, incarnation?.
local thread, seq = ARGV[1], tonumber(ARGV[2])
if not is_meant(thread, ARGV[3], ARGV[4]) then return {seq == 0 and 'stored' or 'ahead', 0, 0} end
local first = redis.call('HGET', key('live', thread), 'first')
if first and seq >= tonumber(first) then return {'live', 0, 0} end
if seq > (tonumber(redis.call('HGET', key('thread', thread), 'head')) or 0) then return {'ahead', 0, 0} end
if 0 < seq and seq <= (tonumber(redis.call('HGET', key('thread', thread), 'base')) or 0) then return {'deleted', 0, 0} end
local runs = redis.call('ZRANGEBYSCORE', key('runs', thread), ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if not runs[1] then return {'stored', 0, 0} end
local last = tonumber(runs[2])
first = redis.pcall('HGET', key('run', runs[1]), 'first')
first = tonumber(type(first) == 'string' and first)
if not first or seq < first or seq == last then return {'stored', 0, 0} end
local has_journal = redis.call('EXISTS', journal_key(thread, format_integer(first))) == 1
return {has_journal and 'journal' or 'expired', first, last}
