-- GradScaler: losses scaled so that float16's gradients do not vanish (Micikevicius et al., "Mixed
-- precision training", 2018).

local options = require "moonlet.options"
local capture = require "moonlet.capture"
local Class = require "moonlet.class"
local RecordedScaler = require "moonlet.amp.recordedscaler"
local unscale = require "moonlet.amp.unscale"

local GradScaler = Class:extend "GradScaler"

local schema = {
  scale = { "above_zero", 65536 }, growth = { "above_zero", 2 },
  backoff = { "fraction", 0.5 }, interval = { "positive", 2000 },
}

local function check(self, method) Class.check_self(self, GradScaler, method, "scaler") end

-- The scaler itself, or what stands for it in the graph that is recorded.
local function acting(self) return capture.counterpart(self, RecordedScaler) or self end

--- Scales losses by a factor that follows the gradients: it is halved when they overflow, and that
-- step is left out; it is doubled after `interval` steps without overflow. Each run of a CUDA graph
-- (moon.cuda.graph) decides so, too.
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
  self.places = {}          -- CUDA device -> where graphs read the factor (RecordedScaler)
end

--- The loss times the factor, for backward.
-- @tparam Tensor loss
-- @treturn Tensor
function GradScaler:scaled(loss)
  check(self, "scaled")
  return loss * acting(self):factor(loss)
end

-- What a loss is multiplied by.
function GradScaler:factor(loss)
  RecordedScaler.make_place(self, loss.device)
  return self.scale
end

-- Divides gradients by the factor; tells whether all are finite.
function GradScaler:divide(optimizer)
  local found = unscale(optimizer, function() return 1 / self.scale end)
  return found == nil or found:item() == 0
end

--- Divides the gradients of an optimiser's parameters by the factor, as step does by itself; called
-- before it by those who clip gradients.
-- @tparam Optimizer optimizer
-- @treturn boolean whether all are finite; true while a CUDA graph is recorded, whose runs decide
function GradScaler:unscale(optimizer)
  check(self, "unscale")
  local scaler = acting(self)
  if scaler.unscaled[optimizer] ~= nil then
    error("unscale: the gradients are unscaled already; step comes next", 2)
  end
  local finite = scaler:divide(optimizer)
  scaler.unscaled[optimizer] = finite
  return finite ~= false
end

-- Moves the factor after a step that was made, or was left out.
function GradScaler:move(made)
  if not made then
    self.scale, self.steps = self.scale * self.backoff, 0
    return
  end
  self.steps = self.steps + 1
  if self.steps == self.interval then self.scale, self.steps = self.scale * self.growth, 0 end
end

-- The optimiser's step, if its gradients are finite.
function GradScaler:step_if(finite, optimizer)
  if finite then optimizer:step() else capture.leave_out() end
  self:move(finite)
  return finite
end

--- Makes the optimiser's step unless a gradient is infinite or NaN, and moves the factor.
-- @tparam Optimizer optimizer
-- @treturn boolean whether the step was made; true while a CUDA graph is recorded, whose runs
-- decide
function GradScaler:step(optimizer)
  check(self, "step")
  local scaler = acting(self)
  if scaler.unscaled[optimizer] == nil then self:unscale(optimizer) end
  local finite = scaler.unscaled[optimizer]
  scaler.unscaled[optimizer] = nil
  return scaler:step_if(finite, optimizer)
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

return GradScaler
