--@ journals threads
-- thread, field, value?
if not exists(ARGV[1]) then return 0 end
local value = given(ARGV[3])
if value then redis.call('HSET', key('thread', ARGV[1]), ARGV[2], value)
else redis.call('HDEL', key('thread', ARGV[1]), ARGV[2]) end
return 1
