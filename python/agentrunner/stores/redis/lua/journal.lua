--@ journals
-- thread, after, until?, limit
local thread, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[4])
local journals = key('journals', thread)
local found, size = {}, 0

-- The token of the epoch in which what follows `after` begins: each begins with the mark of where the last one ended.
local function epoch(stream)
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not oldest then return end
  local token = parts(oldest[1])
  while true do
    local next = redis.call('XRANGE', stream, '(' .. token .. '-' .. CLOSED, '+', 'COUNT', 1)[1]
    if not next then return token end
    local later, seq = parts(next[1])
    if tonumber(seq) > tonumber(after) then return token end
    token = later
  end
end

local function read(stream)
  local token = epoch(stream)
  if not token then return end
  local from, count = '(' .. token .. '-' .. after, 1
  repeat
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      if size >= limit then return end
      local fields = entry[2]
      if fields[1] == 'after' then
        local _, last = parts(entry[1])
        found[#found + 1] = {fields[2], last, fields[4]}
        size = size + #fields[4]
      end
      from = '(' .. entry[1]
    end
    -- Few at first: each may be large.
    local wanted = count
    count = math.min(count * 2, 64)
  until #entries < wanted
end

local begin = redis.call('ZREVRANGEBYSCORE', journals, digits(after + 1), '-inf', 'LIMIT', 0, 1)[1] or '-inf'
for _, first in ipairs(redis.call('ZRANGEBYSCORE', journals, begin, given(ARGV[3]) or '+inf')) do
  if size >= limit then break end
  read(journal(thread, first))
end

-- Who writes the newest journal, for where the lease is kept elsewhere.
local writer = false
local first = redis.call('ZREVRANGE', journals, 0, 0)[1]
if first then
  local token, seq = newest(journal(thread, first))
  if token and seq ~= CLOSED then writer = token end
end
return {redis.call('HGET', key('live', thread), 'token'), writer, found}
