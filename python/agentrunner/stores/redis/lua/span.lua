--@ journals
-- Arguments: thread, seq, incarnation?. Returns the first and last seq of the run whose journal has this seq.
local first = redis.call('ZREVRANGEBYSCORE', key('journals', ARGV[1]), ARGV[2], '-inf', 'LIMIT', 0, 1)[1]
if not first or not is_of_incarnation(journal_key(ARGV[1], first), read_optional(ARGV[3])) then return false end
local _, last = read_newest_frames(journal_key(ARGV[1], first))
if not last or tonumber(ARGV[2]) >= tonumber(last) then return false end
return {tonumber(first), tonumber(last)}
