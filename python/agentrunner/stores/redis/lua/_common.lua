-- Every script begins with this file: it names the keys. The parts that the script's first line lists follow it.
-- KEYS[1] is the prefix. All keys are `<prefix>:<kind>` or `<prefix>:<kind>:<id>`. An id can be any bytes,
-- so it comes last.

local function shared_key(kind) return KEYS[1] .. ':' .. kind end
local function key(kind, id) return KEYS[1] .. ':' .. kind .. ':' .. id end

local function format_integer(number) return string.format('%.0f', number) end

-- An optional argument is '' if it is missing, and otherwise '=' followed by its value.
local function read_optional(argument) if argument ~= '' then return string.sub(argument, 2) end return false end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function publish_change(thread, seq) redis.call('PUBLISH', key('changed', thread), seq) end
