--- moon.amp: mixed precision in either half type, and losses scaled so that float16's gradients do
-- not vanish (Micikevicius et al., "Mixed precision training", 2018).
--
-- bfloat16 has float32's range and needs no scaling; moon.autocast(fn) is all there is to it.
local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"

local amp = {}

--- Calls a function with products and convolutions in a half type, losses and softmax in float32.
-- Parameters and their gradients stay float32; the backward pass belongs outside.
-- @string dtype "bfloat16" or "float16"
-- @func fn
-- @param ... its arguments
-- @return its results
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(4, 2)
-- assert(moon.amp.autocast("float16", net, moon.randn(3, 4)).dtype == "float16")
function amp.autocast(dtype, fn, ...)
  local function call(...) return fn(...) end   -- a layer is a table that can be called
  return core.autocast_in(dtype, call, ...)
end

local GradScaler = Class:extend "GradScaler"

local schema = {
  scale = { "above_zero", 65536 }, growth = { "above_zero", 2 },
  backoff = { "fraction", 0.5 }, interval = { "positive", 2000 },
}

local function check(self, method) Class.check_self(self, GradScaler, method, "scaler") end

--- Scales losses by a factor that follows the gradients: it is halved when they overflow, and that
-- step is left out; it is doubled after `interval` steps without overflow.
-- @tparam ?table given scale = 65536 at first, growth = 2, backoff = 0.5, interval = 2000
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(4, 2)
-- local optimizer = moon.optim.SGD(net:parameters(), { lr = 0.1 })
-- local scaler = moon.amp.GradScaler { scale = 1024 }
-- local loss = moon.amp.autocast("float16", net, moon.randn(3, 4)):float():square():mean()
-- scaler:scaled(loss):backward()
-- assert(scaler:step(optimizer))
function GradScaler:init(given)
  local o = options.read("GradScaler", given, schema)
  self.scale, self.growth, self.backoff, self.interval = o.scale, o.growth, o.backoff, o.interval
  self.steps = 0            -- without overflow since the factor last changed
  self.unscaled = {}        -- optimiser -> whether its gradients are finite, until its step
end

--- The loss times the factor, for backward.
-- @tparam Tensor loss
-- @treturn Tensor
function GradScaler:scaled(loss)
  check(self, "scaled")
  return loss * self.scale
end

local function gradients_of(optimizer)
  local list = {}
  for _, group in ipairs(optimizer.groups) do
    for _, parameter in ipairs(group.params) do
      if parameter.grad then list[#list + 1] = parameter.grad end
    end
  end
  return list
end

-- One value is read from the device for all gradients; NaN is the largest of numbers.
local function divide(gradients, scale)
  local largest = {}
  for i, gradient in ipairs(gradients) do
    gradient:mul_(1 / scale)
    largest[i] = gradient:numel() > 0 and gradient:abs():max():float() or nil
  end
  if #largest == 0 then return true end
  local most = core.stack(largest):max():item()
  return most - most == 0
end

--- Divides the gradients of an optimiser's parameters by the factor, as step does by itself; called
-- before it by those who clip gradients.
-- @tparam Optimizer optimizer
-- @treturn boolean whether all are finite
function GradScaler:unscale(optimizer)
  check(self, "unscale")
  if self.unscaled[optimizer] ~= nil then
    error("unscale: the gradients are unscaled already; step comes next", 2)
  end
  local gradients = gradients_of(optimizer)
  local finite = core.scope(core.no_grad, divide, gradients, self.scale)
  self.unscaled[optimizer] = finite
  return finite
end

--- Makes the optimiser's step unless a gradient is infinite or NaN, and moves the factor.
-- @tparam Optimizer optimizer
-- @treturn boolean whether the step was made
function GradScaler:step(optimizer)
  check(self, "step")
  if self.unscaled[optimizer] == nil then self:unscale(optimizer) end
  local finite = self.unscaled[optimizer]
  self.unscaled[optimizer] = nil
  if finite then
    optimizer:step()
    self.steps = self.steps + 1
    if self.steps == self.interval then self.scale, self.steps = self.scale * self.growth, 0 end
  else
    self.scale, self.steps = self.scale * self.backoff, 0
  end
  return finite
end

--- The factor and how long it has held, to be saved.
function GradScaler:state_dict()
  check(self, "state_dict")
  return { scale = self.scale, steps = self.steps }
end

--- Goes on where another run was.
-- @tparam table dict what state_dict gave
function GradScaler:load_state_dict(dict)
  check(self, "load_state_dict")
  for _, name in ipairs { "scale", "steps" } do
    if type(dict) ~= "table" or type(dict[name]) ~= "number" then
      error("load_state_dict: the scaler's state has a number " .. name, 2)
    end
  end
  self.scale, self.steps = dict.scale, dict.steps
end

amp.GradScaler = GradScaler

return amp
