-- What the loss layers share: a class whose options are checked once and passed to an operator.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local reductions = { "mean", "sum", "none" }

--- Makes a loss class: loss(input, target) calls core[operator](input, target, options).
-- @string name the class's name
-- @string operator the operator's name
-- @tparam ?table extra option schema besides `reduction`
return function(name, operator, extra)
  local Loss = Module:extend(name)
  local schema = { reduction = { reductions, "mean" } }
  for key, rule in pairs(extra or {}) do schema[key] = rule end

  function Loss:init(given)
    local o = options.read(name, given, schema)
    rawset(self, "call_options", o)
    self.reduction = o.reduction
    if o.weight then self:register_buffer("weight", o.weight) end
  end

  function Loss:forward(input, target)
    if self.weight then self.call_options.weight = self.weight end
    return core[operator](input, target, self.call_options)
  end

  function Loss:describe()
    return self.reduction == "mean" and "" or ('reduction = "%s"'):format(self.reduction)
  end

  return Loss
end
