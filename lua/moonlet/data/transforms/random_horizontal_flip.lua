-- random_horizontal_flip: each picture is mirrored left to right with probability p.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"

local RandomHorizontalFlip = Transform:extend "random_horizontal_flip"

RandomHorizontalFlip.keeps_nothing = true
RandomHorizontalFlip.module, RandomHorizontalFlip.dim = NAME, 4   -- subclasses have their own

--- Mirrors at random.
-- @number[opt=0.5] p the probability
-- @usage local moon = require "moonlet"
-- local x = moon.data.transforms.random_horizontal_flip(1)(moon.tensor { { { 1, 2 } } })
-- assert(x[{ 1, 1, 1 }] == 2)
function RandomHorizontalFlip:init(p)
  self.p = p == nil and 0.5
    or options.argument("transforms." .. self.class_name, "p", p, "number")
  self:remember(self.module, self.p)
end

function RandomHorizontalFlip:apply(x)
  local chosen = core.rand({ x:size(1), 1, 1, 1 }, { device = x.device }):lt(self.p)
  return core.where(chosen, core.flip(x, self.dim), x)
end

return RandomHorizontalFlip
