-- Rprop: each element has a step of its own, which grows by eta_plus while the gradient keeps its
-- sign and shrinks by eta_minus where it turned; there the element waits one step. Only the
-- gradient's sign is read, so it suits whole-set gradients, not small batches.

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Rprop = Optimizer:extend "Rprop"

Rprop.schema = Optimizer.options {
  lr = { "from_zero", 0.01 }, eta_minus = { "above_zero", 0.5 }, eta_plus = { "above_zero", 1.2 },
  step_min = { "from_zero", 1e-6 }, step_max = { "above_zero", 50 },
}
Rprop.slots = { "previous" }
Rprop.sweeps = true

--- Rprop (Riedmiller and Braun 1993; the variant that forgets a turned gradient).
-- @function Rprop:init
-- @tparam table params a list of parameters, or of groups
-- @tparam ?table given lr = 0.01 (the first step), eta_minus = 0.5, eta_plus = 1.2,
-- step_min = 1e-6, step_max = 50, maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Rprop(net:parameters())
-- net(moon.ones(4, 2)):mean():backward()
-- opt:step()

function Rprop.check_group(group)
  if group.eta_minus >= 1 or group.eta_plus <= 1 then
    return ("eta_minus must lie below 1 and eta_plus above, not %g and %g"):format(
      group.eta_minus, group.eta_plus)
  end
  if group.step_min > group.step_max then
    return ("step_min must not exceed step_max, but %g > %g"):format(
      group.step_min, group.step_max)
  end
end

function Rprop:fresh_state(parameter, group)
  local state = Optimizer.fresh_state(self, parameter)
  state.size = core.keep(core.full_like(parameter, group.lr))
  return state
end

function Rprop:update(parameter, gradient, group, state)
  core.rprop_step_(parameter, gradient, state.previous, state.size, {
    eta_minus = group.eta_minus, eta_plus = group.eta_plus, step_min = group.step_min,
    step_max = group.step_max, maximize = group.maximize,
  })
end

return Rprop
