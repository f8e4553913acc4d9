-- ReduceLROnPlateau: the learning rate is multiplied by `factor` when a metric has not improved for
-- more than `patience` epochs. step(metric) takes the metric; the trainer gives it the test loss.
-- Better is: below best (1 - threshold) or, with threshold_mode "abs", best - threshold; with mode
-- "max" above, with + for -. A change of eps or less is not made.

local options = require "moonlet.options"
local Class = require "moonlet.class"
local Schedule = require "moonlet.optim.schedule"

local ReduceLROnPlateau = Schedule:extend "ReduceLROnPlateau"

ReduceLROnPlateau.wants_metric = true

local schema = {
  mode = { { "min", "max" }, "min" }, factor = { "fraction", 0.1 }, patience = { "count", 10 },
  threshold = { "from_zero", 1e-4 }, threshold_mode = { { "rel", "abs" }, "rel" },
  cooldown = { "count", 0 }, min_lr = { "any", 0 }, eps = { "from_zero", 1e-8 },
}
local remembered = { "best", "bad", "cooling" }

--- Lowers the learning rate when a metric stands still.
-- @tparam Optimizer optimizer
-- @tparam ?table given mode = "min", factor = 0.1, patience = 10, threshold = 1e-4,
-- threshold_mode = "rel", cooldown = 0, min_lr = 0 (or one for each group), eps = 1e-8
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { lr = 1 })
-- local schedule = moon.optim.ReduceLROnPlateau(opt, { patience = 0, factor = 0.5 })
-- schedule:step(3)
-- schedule:step(3)
-- assert(opt:lr() == 0.5)
function ReduceLROnPlateau:init(optimizer, given)
  local o = self:read(given, schema)
  self.options, self.bad, self.cooling = o, 0, 0
  self.min_lr = self:each_group("min_lr", o.min_lr, optimizer)
  self.best = o.mode == "min" and math.huge or -math.huge
  self:attach(optimizer)
end

--- The rates are the optimiser's own; there is nothing to set by count.
function ReduceLROnPlateau:apply() end -- luacheck: ignore 212

local better = {
  min = {
    rel = function(a, best, threshold) return a < best * (1 - threshold) end,
    abs = function(a, best, threshold) return a < best - threshold end,
  },
  max = {
    rel = function(a, best, threshold) return a > best * (1 + threshold) end,
    abs = function(a, best, threshold) return a > best + threshold end,
  },
}

local function reduce(self)
  for g, group in ipairs(self.optimizer.groups) do
    local rate = math.max(group.lr * self.options.factor, self.min_lr[g] or 0)
    if group.lr - rate > self.options.eps then group.lr = rate end
  end
end

--- Takes the metric of an epoch.
function ReduceLROnPlateau:step(metric)
  Class.check_self(self, Schedule, "step", "schedule")
  options.argument("ReduceLROnPlateau", "metric", metric, "number", 3)
  local o = self.options
  self.count = self.count + 1
  if better[o.mode][o.threshold_mode](metric, self.best, o.threshold) then
    self.best, self.bad = metric, 0
  else
    self.bad = self.bad + 1
  end
  if self.cooling > 0 then self.cooling, self.bad = self.cooling - 1, 0 end
  if self.bad > o.patience then
    reduce(self)
    self.bad, self.cooling = 0, o.cooldown
  end
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
