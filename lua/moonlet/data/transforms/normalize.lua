-- normalize: (x - mean) / deviation, one number for all channels or one each.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"

local Normalize = Transform:extend "normalize"

Normalize.keeps_nothing = true

local function as_column(value, name, dtype)
  if type(value) == "number" then return value end
  options.argument("transforms.normalize", name, value, "table", 5)
  return core.tensor(value, { dtype = dtype or "float32" }):view(1, #value, 1, 1)
end

--- Shifts and scales to a mean of 0 and a deviation of 1.
-- @param mean a number, or a list of one a channel
-- @param deviation the same
-- @usage local moon = require "moonlet"
-- local x = moon.data.transforms.normalize(0.5, 0.5)(moon.ones(1, 2, 2))
-- assert(x[{1, 1, 1}] == 1)
function Normalize:init(mean, deviation)
  self:remember(NAME, mean, deviation)
  self.mean = as_column(mean, "mean")
  self.deviation = as_column(deviation, "deviation")
  if type(mean) == "table" then core.keep(self.mean) end
  if type(deviation) == "table" then core.keep(self.deviation) end
end

local function beside(value, x) return core.is_tensor(value) and value:to(x) or value end

function Normalize:apply(x)
  return x:sub(beside(self.mean, x)):div(beside(self.deviation, x))
end

return Normalize
