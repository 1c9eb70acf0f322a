-- thread?, behind which address, before which, limit: some at least, if there are any; and whether there are more
local thread, limit = given(ARGV[1]), tonumber(ARGV[4])
local all = thread and key('records', thread) or own('records')
-- A bounded number at once, of bytes too: the server does nothing else meanwhile.
local most = math.min(limit, 200)
local found, size = {}, 0
local page = redis.call('ZRANGEBYLEX', all, '(' .. ARGV[2], ARGV[3], 'LIMIT', 0, most)
for n, address in ipairs(page) do
  if size > 4194304 then return {1, found} end
  local row = redis.call('HMGET', key('record', address), 'thread', 'version', 'value')
  found[n] = {address, row[1], row[2], row[3]}
  size = size + #(row[3] or '')
end
return {#page == most and 1 or 0, found}
