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

-- Runs f with its n-th allocation failing; true if it got through.
local function attempt(f, n)
  moon.fail_allocation(n)
  local ok, message = pcall(function() f() end)   -- keeps no result of f alive
  moon.fail_allocation(0)
  if not ok and not tostring(message):find("memory", 1, true) then
    error(("allocation %d failed, but the error says: %s"):format(n, tostring(message)), 3)
  end
  return ok
end

-- Which failure leaks: looks after each one, which takes a full collection.
local function find_leak(f, before)
  local n = 1
  repeat
    local ok = attempt(f, n)
    local left = live_bytes() - before
    if left ~= 0 then
      error(("after allocation %d failed, %d bytes were left live"):format(n, left), 3)
    end
    n = n + 1
  until ok
end

-- `f` leaves no new tensor anywhere. Returns how many allocations it took.
function faults.every_allocation(f)
  f()
  local before, n = live_bytes(), 1
  while not attempt(f, n) do
    n = n + 1
    if n > 2000 then error("no call got through in 2000 allocations", 2) end
  end
  if live_bytes() ~= before then find_leak(f, before) end
  return n - 1
end

-- The same for each of `calls`, which give a loss, and for its backward into the leaf x.
function faults.every_backward(calls, x)
  for _, call in ipairs(calls) do
    faults.every_allocation(function()
      call():backward()
      x.grad = nil
    end)
  end
end

return faults
