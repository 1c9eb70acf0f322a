--@ journals threads
-- Arguments: scopes, limit, time? and id of the last thread before the page, include archived, agent?. Returns
-- whether there are more threads, time and id of the last one read, and the summaries.
local index, limit, at, thread = index_key(ARGV[1]), tonumber(ARGV[2]), read_optional(ARGV[3]), ARGV[4]
local include_archived, agent = ARGV[5] == '1', read_optional(ARGV[6])
local summaries, offset, read_count = {}, 0, 0

-- Compares bytes, where `<` would compare by the server's locale.
local function is_less(a, b)
  for i = 1, math.min(#a, #b) do
    local left, right = string.byte(a, i), string.byte(b, i)
    if left ~= right then return left < right end
  end
  return #a < #b
end

local last = {'', ''}
while true do
  local page = redis.call('ZREVRANGEBYSCORE', index, at or '+inf', '-inf', 'WITHSCORES', 'LIMIT', offset, 100)
  for i = 1, #page, 2 do
    if not at or tonumber(page[i + 1]) < tonumber(at) or is_less(page[i], thread) then
      -- The server does nothing else while a script runs, so the number of threads is limited.
      if #summaries >= limit or read_count >= 1000 then return {1, last, summaries} end
      read_count = read_count + 1
      last = {page[i + 1], page[i]}
      local row = read_summary(page[i])
      if row and (include_archived or not row[4]) and (not agent or row[3] == agent) then
        summaries[#summaries + 1] = row
      end
    end
  end
  if #page < 200 then return {0, last, summaries} end
  offset = offset + 100
end
