--@ journals threads guard
-- Arguments: thread, field, value?, scopes, incarnation?. Sets the field, or removes it if there is no value.
if not is_meant(ARGV[1], ARGV[4], ARGV[5]) or not thread_exists(ARGV[1]) then return 0 end
local value = read_optional(ARGV[3])
if value then redis.call('HSET', key('thread', ARGV[1]), ARGV[2], value)
else redis.call('HDEL', key('thread', ARGV[1]), ARGV[2]) end
return 1
