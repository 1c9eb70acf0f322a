--@ journals records threads
-- Arguments: scopes, how many threads at the front to skip. Deletes up to 100 threads; those with a live run stay.
-- Returns how many threads were read, and how many of them stay.
local running = 0
local page = redis.call('ZRANGE', index_key(ARGV[1]), ARGV[2], ARGV[2] + 99)
for _, thread in ipairs(page) do
  if redis.call('EXISTS', key('live', thread)) == 1 then running = running + 1 else delete_thread(thread) end
end
return {#page, running}
