-- Arguments: thread, ids...
local known = {}
for i = 2, #ARGV do
  if redis.call('HEXISTS', key('ids', ARGV[1]), ARGV[i]) == 1 then known[#known + 1] = ARGV[i] end
end
return known
