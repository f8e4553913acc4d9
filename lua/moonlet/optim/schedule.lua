-- Schedule: what the learning-rate schedules share. A subclass writes factor(count), the number
-- that each group's first learning rate is multiplied by after `count` steps; or rate(base, count,
-- g) for what is no product; and momentum(count, g) if it moves the momentum too (beta1 where there
-- is none). Everything follows from the count, so nothing drifts and a resumed run is exact.
--
-- The first rate is the group's when its first schedule was made (group.initial_lr), so that
-- several schedules of one optimiser agree on it. Stepped once an epoch unless it is `per_batch`,
-- which every schedule's options take; whoever loops calls step(), the trainer does both.

local options = require "moonlet.options"
local capture = require "moonlet.capture"
local Class = require "moonlet.class"
local Optimizer = require "moonlet.optim.optimizer"

local Schedule = Class:extend "Schedule"

Schedule.per_batch = false

--- Reads the options of a subclass, and per_batch; called by its init.
function Schedule:read(given, schema)
  local whole = { per_batch = { "boolean", self.per_batch } }
  for name, rule in pairs(schema or {}) do whole[name] = rule end
  local o = options.read(self.class_name, given, whole, 5)
  self.per_batch = o.per_batch
  return o
end

--- A number for each group, of one number for all or a list; called by an init.
function Schedule:each_group(name, value, optimizer, kind)
  self:check_optimizer(optimizer, 5)
  local list = type(value) == "table"
  if list and #value ~= #optimizer.groups then
    error(("%s: %s must be a number, or a list of one for each of the %d groups"):format(
      self.class_name, name, #optimizer.groups), 4)
  end
  local result = {}
  for g in ipairs(optimizer.groups) do
    local number = value
    if list then number = value[g] end
    result[g] = options.argument(self.class_name, name, number, kind or "from_zero", 5)
  end
  return result
end

function Schedule:check_optimizer(optimizer, level)
  if not Class.is_instance(optimizer, Optimizer) then
    error(self.class_name .. ": the first argument is an optimiser", level)
  end
end

--- Attaches to an optimiser and sets its rates for count 0.
-- @tparam Optimizer optimizer
-- @tparam ?table first the first learning rate of each group, where it is not the present one
function Schedule:attach(optimizer, first)
  self:check_optimizer(optimizer, 4)
  self.optimizer, self.count, self.base = optimizer, 0, {}
  for g, group in ipairs(optimizer.groups) do
    group.initial_lr = first and first[g] or group.initial_lr or group.lr
    self.base[g] = group.initial_lr
  end
  self:apply()
end

--- A group's learning rate after `count` steps, from its first.
function Schedule:rate(base, count)
  return base * self:factor(count)
end

local function set_momentum(group, value)
  group[group.momentum and "momentum" or "beta1"] = value
end

--- Sets the learning rates for the present count.
function Schedule:apply()
  for g, group in ipairs(self.optimizer.groups) do
    self.base[g] = self.base[g] or group.lr      -- a group added since
    group.lr = self:rate(self.base[g], self.count, g)
    local momentum = self.momentum and self:momentum(self.count, g)
    if momentum then set_momentum(group, momentum) end
  end
end

--- One step further.
function Schedule:step()
  Class.check_self(self, Schedule, "step", "schedule")
  self:seek(self.count + 1)
  capture.step(self)
end

--- Goes to a count, and sets the rates for it.
function Schedule:seek(count)
  Class.check_self(self, Schedule, "seek", "schedule")
  self.count = count
  self:apply()
end

--- The first group's learning rate now.
function Schedule:lr()
  Class.check_self(self, Schedule, "lr", "schedule")
  return self.optimizer.groups[1].lr
end

--- A flat table of plain values.
function Schedule:state_dict()
  Class.check_self(self, Schedule, "state_dict", "schedule")
  local dict = { kind = self.class_name, count = self.count }
  for g, lr in ipairs(self.base) do dict["base." .. g] = lr end
  return dict
end

--- Goes on where another run was. The optimiser's own state holds the learning rates.
function Schedule:load_state_dict(dict)
  Class.check_self(self, Schedule, "load_state_dict", "schedule")
  options.argument("load_state_dict", "state", dict, "table", 3)
  if dict.kind ~= self.class_name then
    error(("load_state_dict: this is %s, the state is of %s"):format(
      self.class_name, tostring(dict.kind)), 2)
  end
  self.count = dict.count
  for g in ipairs(self.base) do self.base[g] = dict["base." .. g] or self.base[g] end
end

return Schedule
