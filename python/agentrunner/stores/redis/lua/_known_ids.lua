-- Returns those of the script's arguments, from this one on, that the thread's stored runs have as message ids. Each is
-- followed by the last seq of the newest run that has it.
local function read_known_ids(thread, from)
  local known = {}
  for i = from, #ARGV do
    local last = redis.call('HGET', key('ids', thread), ARGV[i])
    if last then
      known[#known + 1] = ARGV[i]
      known[#known + 1] = tonumber(last) or 0
    end
  end
  return known
end
