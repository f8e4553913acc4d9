-- Lets the first, second, third ... allocation of a call fail, until the call gets through: each
-- failure must be an error that speaks of memory, must leak nothing, and must leave the library
-- usable (after SQLite's and Lua's own tests).
local moon = require "moonlet"

local faults = {}

local function live_bytes()
  collectgarbage()
  collectgarbage()
  return moon.memory().live
end

-- `f` leaves no new tensor anywhere. Returns how many allocations it took.
function faults.every_allocation(f)
  f()
  local before = live_bytes()
  for n = 1, 1000 do
    moon.fail_allocation(n)
    local ok, message = pcall(function() f() end)   -- keeps no result of f alive
    moon.fail_allocation(0)
    local after = live_bytes()
    if after ~= before then
      error(("after allocation %d failed, %d bytes were left live"):format(n, after - before), 2)
    end
    if ok then return n - 1 end
    if not tostring(message):find("memory", 1, true) then
      error(("allocation %d failed, but the error says: %s"):format(n, tostring(message)), 2)
    end
  end
  error("no call got through in 1000 allocations", 2)
end

return faults
