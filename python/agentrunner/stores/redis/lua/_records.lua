-- Records: one hash for each, and sorted sets of their addresses, `<kind> NUL <key>`: of all, and of each thread.

local function remove_record(thread, address)
  redis.call('UNLINK', key('record', address))
  redis.call('ZREM', shared_key('records'), address)
  redis.call('ZREM', key('records', thread), address)
end

local function drop_records(thread)
  for _, address in ipairs(redis.call('ZRANGE', key('records', thread), 0, -1)) do remove_record(thread, address) end
end
