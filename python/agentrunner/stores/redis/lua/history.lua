--@ guard
-- Arguments: thread, seq, index?, until?, limit, scopes, incarnation?. Returns whether there are more runs, and for each run its last seq,
-- how many frames to skip, and its events.
if not is_meant(ARGV[1], ARGV[6], ARGV[7]) then return {0, {}} end
local seq, index, limit = tonumber(ARGV[2]), read_optional(ARGV[3]), tonumber(ARGV[5])
local until_seq = tonumber(read_optional(ARGV[4])) or math.huge
local runs, size, from = {}, 0, ARGV[2]
repeat
  local page = redis.call('ZRANGEBYSCORE', key('runs', ARGV[1]), from, '+inf', 'WITHSCORES', 'LIMIT', 0, 64)
  for i = 1, #page, 2 do
    local row, last = redis.pcall('HMGET', key('run', page[i]), 'first', 'events'), tonumber(page[i + 1])
    -- A run that cannot be read is skipped.
    local first = not row.err and row[2] and tonumber(row[1])
    local skip = first and first > seq and first < until_seq and 0
    if first and index and last == seq and first < until_seq then skip = index + 1 end
    if skip then
      if size >= limit then return {1, runs} end
      runs[#runs + 1] = {page[i + 1], skip, row[2]}
      size = size + #row[2]
    end
    from = '(' .. page[i + 1]
  end
until #page < 128
return {0, runs}
