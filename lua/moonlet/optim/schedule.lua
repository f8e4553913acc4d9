-- Schedule: what the learning-rate schedules share. A subclass writes factor(count), the number
-- that each group's first learning rate is multiplied by after `count` steps. Stepped once an epoch
-- unless its class says `per_batch`; whoever loops calls step(), the trainer does both.

local Class = require "moonlet.class"
local Optimizer = require "moonlet.optim.optimizer"

local Schedule = Class:extend "Schedule"

Schedule.per_batch = false

--- Attaches to an optimiser, whose present learning rates are the first ones.
function Schedule:attach(optimizer)
  if not Class.is_instance(optimizer, Optimizer) then
    error(self.class_name .. ": the first argument is an optimiser", 4)
  end
  self.optimizer, self.count, self.base = optimizer, 0, {}
  for g, group in ipairs(optimizer.groups) do self.base[g] = group.lr end
  self:apply()
end

--- Sets the learning rates for the present count.
function Schedule:apply()
  local factor = self:factor(self.count)
  for g, group in ipairs(self.optimizer.groups) do group.lr = self.base[g] * factor end
end

--- One step further.
function Schedule:step()
  Class.check_self(self, Schedule, "step", "schedule")
  self.count = self.count + 1
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
  if dict.kind ~= self.class_name then
    error(("load_state_dict: this is %s, the state is of %s"):format(
      self.class_name, tostring(dict.kind)), 2)
  end
  self.count = dict.count
  for g in ipairs(self.base) do self.base[g] = dict["base." .. g] or self.base[g] end
end

return Schedule
