--@ guard
-- Arguments: thread, scopes, incarnation?, ids...
local known = {}
if not is_meant(ARGV[1], ARGV[2], ARGV[3]) then return known end
for i = 4, #ARGV do
  if redis.call('HEXISTS', key('ids', ARGV[1]), ARGV[i]) == 1 then known[#known + 1] = ARGV[i] end
end
return known
