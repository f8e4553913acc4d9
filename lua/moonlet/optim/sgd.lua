-- SGD: g = gradient + weight_decay p;  b = momentum b + (1 - dampening) g, b = g at first;
-- p = p - lr (b, or g + momentum b with nesterov, or g without momentum).

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local SGD = Optimizer:extend "SGD"

SGD.schema = {
  lr = { "number", 0.01 }, momentum = { "number", 0 }, dampening = { "number", 0 },
  weight_decay = { "number", 0 }, nesterov = { "boolean", false },
}

--- Stochastic gradient descent.
-- @function SGD:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function SGD.check_group(group)
  if group.nesterov and (group.momentum <= 0 or group.dampening ~= 0) then
    return "nesterov needs a momentum above 0 and no dampening"
  end
end

-- The buffer is made on first use, so that plain descent costs no memory.
SGD.optional_slots = { "momentum" }

function SGD:update(parameter, gradient, group, state)
  local first = state.momentum == nil
  if group.momentum ~= 0 and first then
    state.momentum = core.keep(core.zeros_like(parameter))
  end
  core.sgd_step_(parameter, gradient, state.momentum, {
    lr = group.lr, momentum = group.momentum, dampening = group.dampening,
    weight_decay = group.weight_decay, nesterov = group.nesterov, first = first,
  })
end

return SGD
