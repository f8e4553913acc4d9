-- OneCycleLR: batch by batch from max_lr / div_factor up to max_lr over the first pct_start of the
-- run, then down to max_lr / div_factor / final_div_factor; the momentum goes the other way, from
-- max_momentum to base_momentum and back. With three_phase it comes down as it went up, and then to
-- the lowest.

local options = require "moonlet.options"
local Schedule = require "moonlet.optim.schedule"

local OneCycleLR = Schedule:extend "OneCycleLR"

OneCycleLR.per_batch = true

local schema = {
  pct_start = { "share", 0.3 }, anneal_strategy = { { "cos", "linear" }, "cos" },
  cycle_momentum = { "boolean", true }, base_momentum = { "fraction", 0.85 },
  max_momentum = { "fraction", 0.95 }, div_factor = { "above_zero", 25 },
  final_div_factor = { "above_zero", 1e4 }, three_phase = { "boolean", false },
}

-- Up to which count a phase goes, and what rate and momentum it starts and ends with.
local function make_phases(total, o)
  local up = { o.pct_start * total - 1, "initial", "max", "max", "base" }
  if not o.three_phase then return { up, { total - 1, "max", "least", "base", "max" } } end
  return {
    up, { 2 * o.pct_start * total - 2, "max", "initial", "base", "max" },
    { total - 1, "initial", "least", "max", "max" },
  }
end

--- One cycle of a high learning rate (Smith and Topin 2018).
-- @tparam Optimizer optimizer
-- @param max_lr the highest rate, a number or one for each group
-- @int total_steps batches in the whole run
-- @tparam ?table given pct_start = 0.3, anneal_strategy = "cos" or "linear",
-- cycle_momentum = true, base_momentum = 0.85, max_momentum = 0.95, div_factor = 25,
-- final_div_factor = 1e4, three_phase = false, per_batch = true
-- @usage local moon = require "moonlet"
-- local opt = moon.optim.SGD(moon.nn.Linear(1, 1):parameters(), { momentum = 0.9 })
-- local schedule = moon.optim.OneCycleLR(opt, 1, 10, { pct_start = 0.5 })
-- for _ = 1, 4 do schedule:step() end
-- assert(math.abs(opt:lr() - 1) < 1e-12 and opt.groups[1].momentum == 0.85)
function OneCycleLR:init(optimizer, max_lr, total_steps, given)
  self.max_lr = self:each_group("max_lr", max_lr, optimizer)
  self.total_steps = options.argument("OneCycleLR", "total_steps", total_steps, "positive")
  self.options = self:read(given, schema)
  self.phases = make_phases(total_steps, self.options)
  local group = optimizer.groups[1]
  if self.options.cycle_momentum and not (group.momentum or group.beta1) then
    error(("OneCycleLR: %s has no momentum to cycle; give cycle_momentum = false"):format(
      optimizer.class_name), 3)
  end
  local first = {}
  for g, most in ipairs(self.max_lr) do first[g] = most / self.options.div_factor end
  self:attach(optimizer, first)
end

local curves = {
  cos = function(from, to, part) return to + (from - to) / 2 * (1 + math.cos(math.pi * part)) end,
  linear = function(from, to, part) return from + (to - from) * part end,
}

-- The phase that a count falls into, and how far through it that is.
local function position(self, count)
  local phases, start = self.phases, 0
  count = math.min(count, self.total_steps - 1)
  for i, phase in ipairs(phases) do
    if count <= phase[1] or i == #phases then
      local length = phase[1] - start
      return phase, length > 0 and (count - start) / length or 1
    end
    start = phase[1]
  end
end

function OneCycleLR:rate(base, count, g)
  local most = self.max_lr[g] or base * self.options.div_factor
  local rates = { initial = base, max = most, least = base / self.options.final_div_factor }
  local phase, part = position(self, count)
  return curves[self.options.anneal_strategy](rates[phase[2]], rates[phase[3]], part)
end

function OneCycleLR:momentum(count)
  local o = self.options
  if not o.cycle_momentum then return nil end
  local ends = { max = o.max_momentum, base = o.base_momentum }
  local phase, part = position(self, count)
  return curves[o.anneal_strategy](ends[phase[4]], ends[phase[5]], part)
end

return OneCycleLR
