--@ journals guard
-- Arguments: thread, after, until?, limit, scopes, incarnation?. Each journal begins with the incarnation that it is of.
local thread, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[4])
local journals = key('journals', thread)
local batches, size = {}, 0
local incarnation = read_optional(ARGV[6])
if not is_meant(thread, ARGV[5], '') then return {false, false, {}} end

-- Returns the token of the owner that wrote the frame after `after`. Each owner's entries begin with the mark of where
-- the owner before it has ended.
local function find_writer(stream)
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not oldest or not is_of_incarnation(stream, incarnation) then return end
  local token = split_entry_id(oldest[1])
  while true do
    local next = redis.call('XRANGE', stream, '(' .. token .. '-' .. CLOSED, '+', 'COUNT', 1)[1]
    if not next then return token end
    local later, seq = split_entry_id(next[1])
    if tonumber(seq) > tonumber(after) then return token end
    token = later
  end
end

local function read(stream)
  local token = find_writer(stream)
  if not token then return end
  local from, count = '(' .. token .. '-' .. after, 1
  repeat
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      if size >= limit then return end
      local fields = entry[2]
      if fields[1] == 'after' then
        local _, last = split_entry_id(entry[1])
        batches[#batches + 1] = {fields[2], last, fields[4]}
        size = size + #fields[4]
      end
      from = '(' .. entry[1]
    end
    -- Few entries at first, since each may be large.
    local wanted = count
    count = math.min(count * 2, 64)
  until #entries < wanted
end

local begin = redis.call('ZREVRANGEBYSCORE', journals, format_integer(after + 1), '-inf', 'LIMIT', 0, 1)[1] or '-inf'
for _, first in ipairs(redis.call('ZRANGEBYSCORE', journals, begin, read_optional(ARGV[3]) or '+inf')) do
  if size >= limit then break end
  read(journal_key(thread, first))
end

-- The token under which the newest journal is written, for runs whose lease is in another store.
local writer = false
local first = redis.call('ZREVRANGE', journals, 0, 0)[1]
if first then
  local token, seq = read_newest(journal_key(thread, first))
  if token and seq ~= CLOSED and is_of_incarnation(journal_key(thread, first), incarnation) then writer = token end
end
local is_same_life = is_meant(thread, '', ARGV[6])
return {is_same_life and redis.call('HGET', key('live', thread), 'token'), writer, batches}
