--@ journals threads
-- whose, limit, before: at? and thread, include archived, agent?
local all, limit, at, thread, agent = index(ARGV[1]), tonumber(ARGV[2]), given(ARGV[3]), ARGV[4], given(ARGV[6])
local found, offset, looked = {}, 0, 0

-- By bytes: `<` goes by the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local left, right = string.byte(a, i), string.byte(b, i)
    if left ~= right then return left < right end
  end
  return #a < #b
end

local last = {'', ''}
while true do
  local page = redis.call('ZREVRANGEBYSCORE', all, at or '+inf', '-inf', 'WITHSCORES', 'LIMIT', offset, 100)
  for i = 1, #page, 2 do
    if not at or tonumber(page[i + 1]) < tonumber(at) or less(page[i], thread) then
      -- A bounded number at once: the server does nothing else meanwhile.
      if #found >= limit or looked >= 1000 then return {1, last, found} end
      looked = looked + 1
      last = {page[i + 1], page[i]}
      local row = summary(page[i])
      if row and (ARGV[5] == '1' or not row[4]) and (not agent or row[3] == agent) then found[#found + 1] = row end
    end
  end
  if #page < 200 then return {0, last, found} end
  offset = offset + 100
end
