-- Journals: a stream a run. An entry's id is `<token>-<last seq>`, so that Redis itself refuses what an owner of the
-- past appends, and what is appended twice. An owner begins with a mark, `<token>-<last seq before it>`; the run's end
-- is the mark `<token>-<CLOSED>`.

local CLOSED = '18446744073709551615'

local function journal(thread, first) return key('journal', first .. ':' .. thread) end

local function parts(id)
  local token, seq = string.match(id, '^(%d+)-(%d+)$')
  return token, seq
end

local function newest(stream)
  local entry = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if entry then return parts(entry[1]) end
end

-- The same of the newest entry but for the run's end.
local function newest_frames(stream)
  for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 2)) do
    local token, seq = parts(entry[1])
    if seq ~= CLOSED then return token, seq end
  end
end

local function drop_journal(thread, first)
  redis.call('UNLINK', journal(thread, first))
  redis.call('ZREM', key('journals', thread), first)
end

local function drop_journals(thread)
  for _, first in ipairs(redis.call('ZRANGE', key('journals', thread), 0, -1)) do drop_journal(thread, first) end
end

local function open_journal(thread, first, token)
  local journals = key('journals', thread)
  -- Of a thread that was removed, and is there again.
  for _, stale in ipairs(redis.call('ZRANGEBYSCORE', journals, first, '+inf')) do drop_journal(thread, stale) end
  redis.call('XADD', journal(thread, first), token .. '-' .. digits(first - 1), 'mark', '')
  local oldest = redis.call('ZRANGE', journals, 0, 0)[1]
  while oldest and redis.call('EXISTS', journal(thread, oldest)) == 0 do
    redis.call('ZREM', journals, oldest)
    oldest = redis.call('ZRANGE', journals, 0, 0)[1]
  end
  redis.call('ZADD', journals, first, first)
  redis.call('PERSIST', journals)
end

-- From here on only the owner with this token can append.
local function mark_journal(thread, first, token)
  local stream = journal(thread, first)
  local _, last = newest_frames(stream)
  local seq = last or digits(first - 1)
  redis.call('XADD', stream, token .. '-' .. seq, 'mark', '')
  redis.call('PERSIST', stream)
  redis.call('ZADD', key('journals', thread), first, first)
  redis.call('PERSIST', key('journals', thread))
  return seq
end

local function close_journal(thread, first, resume)
  local stream = journal(thread, first)
  local token, seq = newest(stream)
  if token and seq ~= CLOSED then redis.call('XADD', stream, token .. '-' .. CLOSED, 'mark', '') end
  redis.call('PEXPIRE', stream, resume)
  redis.call('PEXPIRE', key('journals', thread), resume)
end
