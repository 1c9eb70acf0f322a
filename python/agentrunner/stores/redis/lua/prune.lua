--@ journals records threads
-- Arguments: scan cursor, max runs?, before?, limit. Prunes some of the threads; returns the next cursor and the number
-- of removed runs.
local most, before, left = tonumber(read_optional(ARGV[2])), tonumber(read_optional(ARGV[3])), tonumber(ARGV[4])

-- Returns how many of a thread's oldest runs to remove, and the last seq of the last of them.
local function count_surplus(thread)
  local runs, count, last = key('runs', thread), 0, nil
  local total = redis.call('ZCARD', runs)
  while count < math.min(left, total) do
    local run = redis.call('ZRANGE', runs, count, count, 'WITHSCORES')
    local is_surplus = most and total - count > most
    local created = redis.pcall('HGET', key('run', run[1]), 'created')
    -- A run that cannot be read counts as older than any other.
    created = tonumber(type(created) == 'string' and created) or 0
    if not is_surplus and not (before and created < before) then break end
    count, last = count + 1, run[2]
  end
  return count, last
end

local function remove_oldest(thread, count, last)
  local runs = key('runs', thread)
  for _, run in ipairs(redis.call('ZRANGE', runs, 0, count - 1)) do
    local packed = redis.pcall('HGET', key('run', run), 'ids')
    for _, id in ipairs(type(packed) == 'string' and cmsgpack.unpack(packed) or {}) do
      -- A run that stays may have the message too.
      local latest = redis.call('HGET', key('ids', thread), id)
      if latest and tonumber(latest) <= tonumber(last) then redis.call('HDEL', key('ids', thread), id) end
    end
    redis.call('UNLINK', key('run', run))
  end
  redis.call('ZREMRANGEBYRANK', runs, 0, count - 1)
  for _, first in ipairs(redis.call('ZRANGEBYSCORE', key('journals', thread), '-inf', last)) do
    drop_journal(thread, first)
  end
  local oldest = redis.call('ZRANGE', runs, 0, 0)[1]
  if oldest then redis.pcall('HDEL', key('run', oldest), 'parent')
  elseif redis.call('EXISTS', key('live', thread)) == 0 then delete_thread(thread) end
end

local removed = 0
local scanned = redis.call('ZSCAN', shared_key('threads'), ARGV[1], 'COUNT', 50)
for i = 1, #scanned[2], 2 do
  local thread = scanned[2][i]
  local count, last = count_surplus(thread)
  if count > 0 then
    remove_oldest(thread, count, last)
    removed, left = removed + count, left - count
  end
end
return {scanned[1], removed}
