-- Workers of spec/support/workers.lua that a spec starts, closed after each of its tests:
--
--   after_each(started.close)
local moon = require "moonlet"

local started = {}
local opened = {}

-- A worker that runs the function of that name.
function started.worker(name, arguments)
  local worker = moon.worker_new("spec.support.workers", name, arguments)
  opened[#opened + 1] = worker
  return worker
end

-- Closes all, the last first.
function started.close()
  for i = #opened, 1, -1 do
    opened[i]:close()
    opened[i] = nil
  end
end

return started
