--@ records
-- Arguments: nonce of the store, call, thread and token of the claim (empty without one), number of answered calls,
-- those calls..., then for each change: address, thread, expected version (empty for any), whether it sets, value.
local calls, call, i = key('writes', ARGV[1]), ARGV[2], 6 + ARGV[5]
-- If this is a retry, an earlier attempt whose reply was lost may have done it.
local earlier_result = redis.call('HGET', calls, call)
if earlier_result then return {'done', cmsgpack.unpack(earlier_result)} end
if ARGV[4] ~= '' and redis.call('HGET', key('live', ARGV[3]), 'token') ~= ARGV[4] then return {'lost'} end

for at = i, #ARGV, 5 do
  local record = redis.call('HMGET', key('record', ARGV[at]), 'thread', 'version')
  if record[1] and record[1] ~= ARGV[at + 1] or ARGV[at + 2] ~= '' and ARGV[at + 2] ~= (record[2] or '0') then
    return {'conflict', (at - i) / 5}
  end
end

-- Versions are the time in microseconds, so that they are also greater than those that a replica had not received when
-- it took over.
local time = redis.call('TIME')
local version = math.max(tonumber(redis.call('GET', shared_key('versions'))) or 0, time[1] * 1000000 + time[2])
local versions = {}
for at = i, #ARGV, 5 do
  local address, thread = ARGV[at], ARGV[at + 1]
  if ARGV[at + 3] == '1' then
    version = version + 1
    versions[#versions + 1] = format_integer(version)
    redis.call('HSET', key('record', address), 'thread', thread, 'version', format_integer(version),
      'value', ARGV[at + 4])
    redis.call('ZADD', shared_key('records'), 0, address)
    redis.call('ZADD', key('records', thread), 0, address)
  else
    versions[#versions + 1] = '0'
    remove_record(thread, address)
  end
end
redis.call('SET', shared_key('versions'), format_integer(version))
redis.call('HSET', calls, call, cmsgpack.pack(versions))
for n = 6, 5 + ARGV[5] do redis.call('HDEL', calls, ARGV[n]) end
redis.call('PEXPIRE', calls, 3600000)
return {'done', versions}
