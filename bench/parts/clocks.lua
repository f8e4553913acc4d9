-- How benches take the time: the machine's clock, or the processor time of all threads divided by
-- their number, which other work on the machine disturbs less.

local moon = require "moonlet"

local M = {}

local LEAST, MOST = 3, 200   -- calls measured

--- A function that gives the median of milliseconds which fn takes, called for so many seconds at
-- least. `before`, when given, is called in front of every call and not measured.
function M.measurer(kind, threads, seconds)
  local clock = kind == "cpu" and function() return os.clock() / threads end or moon.clock
  moon.set_num_threads(threads)
  local function once(fn, before)
    if before then before() end
    local started = clock()
    fn()
    return (clock() - started) * 1e3
  end
  return function(fn, before)
    once(fn, before)
    once(fn, before)   -- the second call finds the memory that the first one let go
    local times, began = {}, moon.clock()
    repeat times[#times + 1] = once(fn, before)
    until #times == MOST or (#times >= LEAST and moon.clock() - began > seconds)
    table.sort(times)
    return times[math.ceil(#times / 2)]
  end
end

return M
