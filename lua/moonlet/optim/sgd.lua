-- SGD: g = gradient + weight_decay p;  b = momentum b + (1 - dampening) g, b = g at first;
-- p = p - lr (b, or g + momentum b with nesterov, or g without momentum). With `average` the
-- momentum is a moving average that starts at zero: b = momentum b + (1 - momentum) g.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local SGD = Optimizer:extend "SGD"

SGD.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, momentum = { "from_zero", 0 }, dampening = { "from_zero", 0 },
  weight_decay = { "from_zero", 0 }, nesterov = { "boolean", false },
  average = { "boolean", false },
}
SGD.sweeps = true

--- Stochastic gradient descent (Robbins and Monro 1951), with momentum (Polyak 1964) or Nesterov's
-- (Sutskever et al. 2013).
-- @function SGD:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false,
-- average = false, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function SGD.check_group(group)
  if group.nesterov and (group.momentum <= 0 or group.dampening ~= 0 or group.average) then
    return "nesterov needs a momentum above 0, no dampening and no average"
  end
  if group.average and (group.momentum >= 1 or group.dampening ~= 0) then
    return "average needs a momentum below 1, and is a dampening by itself"
  end
end

-- The buffer is made on first use, so that plain descent costs no memory.
function SGD.optional_slots(group) return group.momentum ~= 0 and { "momentum" } or {} end

function SGD:update(parameter, gradient, group, state) -- luacheck: ignore 212
  core.sgd_step_(parameter, gradient, state.momentum, {
    lr = group.lr, momentum = group.momentum,
    dampening = group.average and group.momentum or group.dampening,
    weight_decay = group.weight_decay, nesterov = group.nesterov,
    first = state.fresh and not group.average, maximize = group.maximize,
  })
end

return SGD
