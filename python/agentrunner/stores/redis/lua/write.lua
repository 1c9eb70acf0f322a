--@ records
-- opening, call, thread and token of the claim?, how many calls have been answered, those calls...,
-- then of each change: address, thread, expected version?, whether it sets, value
local calls, call, i = key('writes', ARGV[1]), ARGV[2], 6 + ARGV[5]
-- Done by a first try whose answer was lost?
local done = redis.call('HGET', calls, call)
if done then return {'done', cmsgpack.unpack(done)} end
if ARGV[4] ~= '' and redis.call('HGET', key('live', ARGV[3]), 'token') ~= ARGV[4] then return {'lost'} end

for at = i, #ARGV, 5 do
  local kept = redis.call('HMGET', key('record', ARGV[at]), 'thread', 'version')
  if kept[1] and kept[1] ~= ARGV[at + 1] or ARGV[at + 2] ~= '' and ARGV[at + 2] ~= (kept[2] or '0') then
    return {'conflict', (at - i) / 5}
  end
end

-- It is the time in microseconds, so that it is also greater than those of which a replica that takes over has not heard.
local time = redis.call('TIME')
local version = math.max(tonumber(redis.call('GET', own('versions'))) or 0, time[1] * 1000000 + time[2])
local versions = {}
for at = i, #ARGV, 5 do
  local address, thread = ARGV[at], ARGV[at + 1]
  if ARGV[at + 3] == '1' then
    version = version + 1
    versions[#versions + 1] = digits(version)
    redis.call('HSET', key('record', address), 'thread', thread, 'version', digits(version), 'value', ARGV[at + 4])
    redis.call('ZADD', own('records'), 0, address)
    redis.call('ZADD', key('records', thread), 0, address)
  else
    versions[#versions + 1] = '0'
    remove_record(thread, address)
  end
end
redis.call('SET', own('versions'), digits(version))
redis.call('HSET', calls, call, cmsgpack.pack(versions))
for n = 6, 5 + ARGV[5] do redis.call('HDEL', calls, ARGV[n]) end
redis.call('PEXPIRE', calls, 3600000)
return {'done', versions}
