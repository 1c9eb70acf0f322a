-- Journals: one stream for each run. An entry's id is `<token>-<last seq>`, and Redis accepts only growing ids. So it
-- refuses what a former owner appends, and what is appended twice. A new owner begins with the mark
-- `<token>-<last seq before it>`, whose value is the thread's incarnation, and the end of the run is the mark
-- `<token>-<CLOSED>`.

local CLOSED = '18446744073709551615'

local function journal_key(thread, first) return key('journal', first .. ':' .. thread) end

local function split_entry_id(id)
  local token, seq = string.match(id, '^(%d+)-(%d+)$')
  return token, seq
end

-- Returns token and seq of the newest entry.
local function read_newest(stream)
  local entry = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if entry then return split_entry_id(entry[1]) end
end

-- Returns token and seq of the newest entry that is not the mark of the run's end.
local function read_newest_frames(stream)
  for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 2)) do
    local token, seq = split_entry_id(entry[1])
    if seq ~= CLOSED then return token, seq end
  end
end

-- Whether a journal is of an incarnation of its thread, by the mark that it begins with; version 0.1.0 wrote none.
local function is_of_incarnation(stream, incarnation)
  if not incarnation then return true end
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local mark = oldest and oldest[2][2]
  return (mark == '' and '-1' or mark) == incarnation
end

local function drop_journal(thread, first)
  redis.call('UNLINK', journal_key(thread, first))
  redis.call('ZREM', key('journals', thread), first)
end

local function drop_journals(thread)
  for _, first in ipairs(redis.call('ZRANGE', key('journals', thread), 0, -1)) do drop_journal(thread, first) end
end

local function open_journal(thread, first, token, incarnation)
  local journals = key('journals', thread)
  -- Journals with these numbers are left from a thread with the same id that was deleted.
  for _, stale in ipairs(redis.call('ZRANGEBYSCORE', journals, first, '+inf')) do drop_journal(thread, stale) end
  redis.call('XADD', journal_key(thread, first), token .. '-' .. format_integer(first - 1), 'mark', incarnation)
  local oldest = redis.call('ZRANGE', journals, 0, 0)[1]
  while oldest and redis.call('EXISTS', journal_key(thread, oldest)) == 0 do
    redis.call('ZREM', journals, oldest)
    oldest = redis.call('ZRANGE', journals, 0, 0)[1]
  end
  redis.call('ZADD', journals, first, first)
  redis.call('PERSIST', journals)
end

-- After this, only the owner with this token can append. Returns the last seq before the mark.
local function mark_journal(thread, first, token, incarnation)
  local stream = journal_key(thread, first)
  local _, last = read_newest_frames(stream)
  local seq = last or format_integer(first - 1)
  redis.call('XADD', stream, token .. '-' .. seq, 'mark', incarnation)
  redis.call('PERSIST', stream)
  redis.call('ZADD', key('journals', thread), first, first)
  redis.call('PERSIST', key('journals', thread))
  return seq
end

local function close_journal(thread, first, resume)
  local stream = journal_key(thread, first)
  local token, seq = read_newest(stream)
  if token and seq ~= CLOSED then redis.call('XADD', stream, token .. '-' .. CLOSED, 'mark', '') end
  redis.call('PEXPIRE', stream, resume)
  redis.call('PEXPIRE', key('journals', thread), resume)
end
