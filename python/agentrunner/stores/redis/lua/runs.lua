--@ guard
-- Arguments: thread, after, limit, scopes, incarnation?. Returns for each run its id, its last seq and its fields, which are false if they
-- cannot be read.
if not is_meant(ARGV[1], ARGV[4], ARGV[5]) then return {} end
local runs, size, from, limit = {}, 0, '(' .. ARGV[2], tonumber(ARGV[3])
repeat
  local page = redis.call('ZRANGEBYSCORE', key('runs', ARGV[1]), from, '+inf', 'WITHSCORES', 'LIMIT', 0, 64)
  for i = 1, #page, 2 do
    if size >= limit then return runs end
    local row = redis.pcall('HMGET', key('run', page[i]), 'parent', 'first', 'events', 'input', 'created')
    if row.err then row = {false, false, false, false, false} end
    runs[#runs + 1] = {page[i], page[i + 1], row}
    size = size + #(row[3] or '') + #(row[4] or '')
    from = '(' .. page[i + 1]
  end
until #page < 128
return runs
