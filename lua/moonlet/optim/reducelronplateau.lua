-- ReduceLROnPlateau: the learning rate is multiplied by `factor` when a metric has not improved for
-- more than `patience` epochs. step(metric) takes the metric; the trainer gives it the test loss.

local options = require "moonlet.options"
local Class = require "moonlet.class"
local Schedule = require "moonlet.optim.schedule"

local ReduceLROnPlateau = Schedule:extend "ReduceLROnPlateau"

ReduceLROnPlateau.wants_metric = true

local schema = {
  mode = { { "min", "max" }, "min" }, factor = { "number", 0.1 }, patience = { "integer", 10 },
  threshold = { "number", 1e-4 }, cooldown = { "integer", 0 }, minimum = { "number", 0 },
}
local remembered = { "best", "bad", "cooling", "scale" }

--- Lowers the learning rate when a metric stands still.
-- @tparam Optimizer optimizer
-- @tparam ?table given mode = "min", factor = 0.1, patience = 10, threshold = 1e-4 (relative),
-- cooldown = 0, minimum = 0 (lowest learning rate)
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.ReduceLROnPlateau(opt, { patience = 0, factor = 0.5 })
-- schedule:step(3)
-- schedule:step(3)
-- assert(opt:lr() == 0.5)
function ReduceLROnPlateau:init(optimizer, given)
  self.options = options.read("ReduceLROnPlateau", given, schema)
  self.scale, self.bad, self.cooling = 1, 0, 0
  self.best = self.options.mode == "min" and math.huge or -math.huge
  self:attach(optimizer)
end

function ReduceLROnPlateau:factor()
  return self.scale
end

function ReduceLROnPlateau:apply()
  for g, group in ipairs(self.optimizer.groups) do
    group.lr = math.max(self.base[g] * self.scale, math.min(self.options.minimum, self.base[g]))
  end
end

local function is_better(self, metric)
  local o = self.options
  if self.best == math.huge or self.best == -math.huge then return metric ~= self.best end
  local margin = o.threshold * math.abs(self.best)
  if o.mode == "min" then return metric < self.best - margin end
  return metric > self.best + margin
end

--- Takes the metric of an epoch.
function ReduceLROnPlateau:step(metric)
  Class.check_self(self, Schedule, "step", "schedule")
  options.argument("ReduceLROnPlateau", "metric", metric, "number", 3)
  self.count = self.count + 1
  if is_better(self, metric) then
    self.best, self.bad = metric, 0
  else
    self.bad = self.bad + 1
  end
  if self.cooling > 0 then self.cooling, self.bad = self.cooling - 1, 0 end
  if self.bad > self.options.patience then
    self.scale = self.scale * self.options.factor
    self.bad, self.cooling = 0, self.options.cooldown
  end
  self:apply()
end

function ReduceLROnPlateau:state_dict()
  local dict = Schedule.state_dict(self)
  for _, name in ipairs(remembered) do dict[name] = self[name] end
  return dict
end

function ReduceLROnPlateau:load_state_dict(dict)
  Schedule.load_state_dict(self, dict)
  for _, name in ipairs(remembered) do self[name] = dict[name] end
end

return ReduceLROnPlateau
