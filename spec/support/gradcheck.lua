-- moon.gradcheck for specs: a disagreement fails.
--
--   gradcheck.check(function(x, w) return x:matmul(w) end, { x, w })
--   gradcheck.second(...)      the same for the gradient of the gradient
-- Under a sanitizer two elements of each input are enough: it wants the code to run.
local moon = require "moonlet"

local gradcheck = {}
local most = os.getenv "MOONLET_SANITIZER" and 2 or 0

local function with(options, more)
  local all = { raise = true, most = most }
  for name, value in pairs(options or {}) do all[name] = value end
  for name, value in pairs(more) do all[name] = value end
  return all
end

-- Returns true. options: step, tolerance, may_be_constant as moon.gradcheck takes them.
function gradcheck.check(fn, inputs, options)
  return moon.gradcheck(fn, inputs, with(options, {}))
end

function gradcheck.second(fn, inputs, options)
  return moon.gradcheck(fn, inputs, with(options, { second = "only" }))
end

return gradcheck
