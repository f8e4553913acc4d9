-- LambdaLR: the learning rate times what a function says of the number of epochs done.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local LambdaLR = Schedule:extend "LambdaLR"

--- A learning rate by a function of one's own. The function is not part of the saved state.
-- @tparam Optimizer optimizer
-- @param fn count -> factor, or a list with one function for each group; count is 0 at first
-- @tparam ?table given per_batch = false
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.LambdaLR(opt, function(epoch) return 1 / (1 + epoch) end)
-- schedule:step()
-- assert(opt:lr() == 0.5)
function LambdaLR:init(optimizer, fn, given)
  self:check_optimizer(optimizer, 4)
  local list = type(fn) == "table" and getmetatable(fn) == nil and fn or nil
  self.functions = {}
  for g in ipairs(optimizer.groups) do
    self.functions[g] = options.argument("LambdaLR", list and "function " .. g or "fn",
      list and list[g] or not list and fn or nil, "callable")
  end
  self:read(given)
  self:attach(optimizer)
end

function LambdaLR:rate(base, count, g)
  local factor = (self.functions[g] or self.functions[1])(count)
  if type(factor) ~= "number" then
    error(("LambdaLR: the function gave %s; it gives a number"):format(options.show(factor)), 0)
  end
  return base * factor
end

return LambdaLR
