-- Run ids are unique within a thread. A run whose id another thread has too is kept under the id, NUL and its thread.
local function qualify_run(thread, run) return run .. '\0' .. thread end

-- Returns the name under which a run is kept, and whether the thread has it already.
local function name_run(thread, run)
  local is_taken = redis.call('EXISTS', key('run', run)) == 1
  if is_taken and redis.call('HGET', key('run', run), 'thread') == thread then return run, true end
  local qualified = qualify_run(thread, run)
  if redis.call('EXISTS', key('run', qualified)) == 1 then return qualified, true end
  return is_taken and qualified or run, false
end
