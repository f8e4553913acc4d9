-- CyclicLR: batch by batch up from base_lr to max_lr in step_size_up steps and down again in
-- step_size_down, over and over; the momentum goes the other way. The height of the cycles stays
-- ("triangular"), halves each cycle ("triangular2") or shrinks by gamma each step ("exp_range").

local Schedule = require "moonlet.optim.schedule"

local CyclicLR = Schedule:extend "CyclicLR"

CyclicLR.per_batch = true

local schema = {
  step_size_up = { "positive", 2000 }, step_size_down = { "positive" },
  mode = { { "triangular", "triangular2", "exp_range" }, "triangular" },
  gamma = { "from_zero", 1 }, cycle_momentum = { "boolean", true },
  base_momentum = { "fraction", 0.8 }, max_momentum = { "fraction", 0.9 },
}

--- Cycles of the learning rate (Smith 2017).
-- @tparam Optimizer optimizer
-- @param base_lr the lowest rate, a number or one for each group
-- @param max_lr the highest, the same
-- @tparam ?table given step_size_up = 2000, step_size_down = step_size_up, mode = "triangular",
-- gamma = 1, cycle_momentum = true, base_momentum = 0.8, max_momentum = 0.9, per_batch = true
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { momentum = 0.9 })
-- local schedule = moon.optim.CyclicLR(opt, 0.1, 0.5, { step_size_up = 2 })
-- schedule:step()
-- assert(math.abs(opt:lr() - 0.3) < 1e-12)
function CyclicLR:init(optimizer, base_lr, max_lr, given)
  local first = self:each_group("base_lr", base_lr, optimizer)
  self.max_lr = self:each_group("max_lr", max_lr, optimizer)
  self.options = self:read(given, schema)
  local group = optimizer.groups[1]
  if self.options.cycle_momentum and not (group.momentum or group.beta1) then
    error(("CyclicLR: %s has no momentum to cycle; give cycle_momentum = false"):format(
      optimizer.class_name), 3)
  end
  self:attach(optimizer, first)
end

local heights = {
  triangular = function() return 1 end,
  triangular2 = function(cycle) return 1 / 2 ^ (cycle - 1) end,
  exp_range = function(_, count, gamma) return gamma ^ count end,
}

-- How high in its range the rate is, from 0 to 1.
local function height(self, count)
  local o = self.options
  local total = o.step_size_up + (o.step_size_down or o.step_size_up)
  local cycle, up = math.floor(1 + count / total), o.step_size_up / total
  local x = 1 + count / total - cycle
  local part = x <= up and x / up or (x - 1) / (up - 1)
  return part * heights[o.mode](cycle, count, o.gamma)
end

function CyclicLR:rate(base, count, g)
  return base + ((self.max_lr[g] or base) - base) * height(self, count)
end

function CyclicLR:momentum(count)
  local o = self.options
  if not o.cycle_momentum then return nil end
  return o.max_momentum - (o.max_momentum - o.base_momentum) * height(self, count)
end

return CyclicLR
