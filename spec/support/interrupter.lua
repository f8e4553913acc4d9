-- Runs in a worker: presses the interrupt key after a while.
local moon = require "moonlet"

local interrupter = {}

function interrupter.run(_, _, options)
  local start = moon.clock()
  while moon.clock() - start < options.seconds do end
  moon.interrupt()
end

return interrupter
