-- Dropout: in training each element is zeroed with probability p and the others are scaled by
-- 1 / (1 - p), so that the mean stays; in evaluation y = x.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Dropout = Module:extend "Dropout"

--- Drops elements at random while training.
-- @number[opt=0.5] p the probability that an element is dropped
-- @usage local moon = require "moonlet"
-- local x = moon.ones(4)
-- assert(moon.nn.Dropout(0.5):eval()(x):sum():item() == 4)
function Dropout:init(p)
  p = p == nil and 0.5 or options.argument("Dropout", "p", p, "number")
  if not (p >= 0 and p < 1) then
    error(("Dropout: p must be from 0 up to but not including 1, not %g"):format(p), 3)
  end
  self.p = p
end

function Dropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return core.dropout(x, self.p, true)
end

function Dropout:describe()
  return ("%g"):format(self.p)
end

return Dropout
