-- Arguments: thread?, start address (excluded), end address, limit. Returns whether there are more records, and a page
-- that has at least one, if there is any.
local thread, limit = read_optional(ARGV[1]), tonumber(ARGV[4])
local addresses = thread and key('records', thread) or shared_key('records')
-- The server does nothing else while a script runs, so both the number of records and their bytes are limited.
local max_rows = math.min(limit, 200)
local rows, size = {}, 0
local page = redis.call('ZRANGEBYLEX', addresses, '(' .. ARGV[2], ARGV[3], 'LIMIT', 0, max_rows)
for n, address in ipairs(page) do
  if size > 4194304 then return {1, rows} end
  local row = redis.call('HMGET', key('record', address), 'thread', 'version', 'value')
  rows[n] = {address, row[1], row[2], row[3]}
  size = size + #(row[3] or '')
end
return {#page == max_rows and 1 or 0, rows}
