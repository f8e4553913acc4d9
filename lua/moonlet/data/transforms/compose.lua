-- compose: transforms one after the other. A plain function among them is allowed where everything
-- runs in one state; it then gets pictures one by one.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"

local Compose = Transform:extend "compose"

--- Joins transforms.
-- @tparam table transforms a list
-- @usage local moon = require "moonlet"
-- local t = moon.data.transforms
-- local both = t.compose { t.pad(2), t.random_crop(28) }
-- assert(both(moon.ones(1, 28, 28)):size(2) == 28)
function Compose:init(transforms)
  options.argument("transforms.compose", "transforms", transforms, "table")
  for i, transform in ipairs(transforms) do
    options.argument("transforms.compose", "transform " .. i, transform, "callable")
  end
  self.transforms = transforms
  self.keeps_nothing = true
  for _, transform in ipairs(transforms) do
    if type(transform) ~= "table" or not transform.keeps_nothing then self.keeps_nothing = false end
  end
  self:remember(NAME, transforms)
end

local function one_by_one(transform, x)
  local results = {}
  for i = 1, x:size(1) do results[i] = transform(x:select(1, i)) end
  return core.stack(results, 1)
end

function Compose:apply(x)
  for _, transform in ipairs(self.transforms) do
    if type(transform) == "table" and transform.takes_batches then
      x = transform(x)
    else
      x = one_by_one(transform, x)
    end
  end
  return x
end

return Compose
