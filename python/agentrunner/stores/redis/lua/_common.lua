-- What every script begins with: where things are. Behind it comes what its first line names.
-- KEYS[1] is the prefix. All keys are `<prefix>:<kind>` or `<prefix>:<kind>:<id>`; an id is any bytes, and always last.

local function own(kind) return KEYS[1] .. ':' .. kind end
local function key(kind, id) return KEYS[1] .. ':' .. kind .. ':' .. id end

local function digits(number) return string.format('%.0f', number) end

-- An argument that may be left out is '' or '=' and the value.
local function given(argument) if argument ~= '' then return string.sub(argument, 2) end return false end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function changed(thread, seq) redis.call('PUBLISH', key('changed', thread), seq) end
