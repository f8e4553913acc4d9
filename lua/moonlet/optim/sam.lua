-- SAM, sharpness-aware minimisation: the gradient is taken at the worst point nearby,
-- p + e with e = rho g / |g| (|g| over all parameters; adaptive: e = rho p^2 g / |p g|), and moves
-- p by the wrapped optimiser. Two forward and backward passes a step, one copy of the parameters.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Wrapper = require "moonlet.optim.wrapper"

local SAM = Wrapper:extend "SAM"

SAM.wants_closure = true

--- SAM (Foret et al. 2021; adaptive: Kwon et al. 2021).
-- @tparam Optimizer base the optimiser that moves the parameters
-- @tparam ?table given rho = 0.05 (the size of the neighbourhood), adaptive = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.SAM(moon.optim.SGD(net:parameters(), { lr = 0.1 }), { rho = 0.1 })
-- opt:step(function()
--   opt:zero_grad()
--   local loss = net(moon.ones(4, 2)):square():mean()
--   loss:backward()
--   return loss
-- end)
function SAM:init(base, given)
  self:wrap(base)
  if base.wants_closure then
    error(("SAM: %s calculates the loss at points of its own and cannot be wrapped"):format(
      base.class_name), 3)
  end
  local o = options.read("SAM", given,
    { rho = { "from_zero", 0.05 }, adaptive = { "boolean", false } })
  self.rho, self.adaptive = o.rho, o.adaptive
end

-- The parameters that have a gradient, as index, parameter, gradient.
local function with_gradient(self)
  local i = 0
  return function()
    while i < #self.entries do
      i = i + 1
      local p = self.entries[i].parameter
      local gradient = not core.is_lazy(p) and p.grad
      if gradient then return i, p, gradient end
    end
  end
end

local function joint_norm(self)
  local sum = 0
  for _, p, gradient in with_gradient(self) do
    local g = self.adaptive and gradient * p or gradient
    sum = sum + g:square():sum():item()
  end
  return math.sqrt(sum)
end

local function climb(self)
  local scale = self.rho / (core.scope(joint_norm, self) + 1e-12)
  self.held = {}
  for i, p, gradient in with_gradient(self) do
    local up = self.entries[i].group.maximize and -scale or scale
    self.held[i] = core.keep(p:detach():clone())
    core.scope(function()
      p:add_((self.adaptive and gradient * p:square() or gradient) * up)
    end)
  end
end

local function come_back(self)
  for i, value in pairs(self.held) do self.entries[i].parameter:copy_(value) end
  self.held = nil
end

--- Goes to the worst point nearby, by the gradients of a first backward. Drop them and call
-- backward again there, then second_step.
function SAM:first_step()
  Class.check_self(self, SAM, "first_step", "optimizer")
  if self.held then error("SAM: first_step was called already; second_step comes next", 2) end
  core.uninterrupted(core.no_grad, climb, self)
end

--- Comes back and moves the parameters by the gradients found up there.
function SAM:second_step()
  Class.check_self(self, SAM, "second_step", "optimizer")
  if not self.held then error("SAM: first_step comes before second_step", 2) end
  core.uninterrupted(function()
    core.no_grad(come_back, self)
    self.base:step()
  end)
end

--- Both steps.
-- @tparam function closure drops the gradients, calculates the loss, calls backward, returns the
-- loss; called twice
-- @return the loss before the step
function SAM:step(closure)
  Class.check_self(self, SAM, "step", "optimizer")
  if closure == nil then
    error("SAM: step needs a closure that calculates the loss and calls backward; or call "
      .. "first_step and second_step", 2)
  end
  local loss = self:evaluate(closure)
  self:first_step()
  local ok, message = pcall(self.evaluate, self, closure)
  if not ok then
    core.uninterrupted(core.no_grad, come_back, self)
    error(message, 0)
  end
  self:second_step()
  return loss
end

function SAM:own_state()
  local dict = {}
  for i, value in pairs(self.held or {}) do dict["held." .. i] = value end
  return dict
end

function SAM:load_own_state(dict)
  self.held = nil
  for i in ipairs(self.entries) do
    local value = dict["held." .. i]
    if value then
      self.held = self.held or {}
      self.held[i] = core.keep(value:clone())
    end
  end
end

return SAM
