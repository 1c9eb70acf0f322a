--@ journals records threads
-- whose, how many at the front are passed over
local kept = 0
local page = redis.call('ZRANGE', index(ARGV[1]), ARGV[2], ARGV[2] + 99)
for _, thread in ipairs(page) do
  if redis.call('EXISTS', key('live', thread)) == 1 then kept = kept + 1 else drop(thread) end
end
return {#page, kept}
