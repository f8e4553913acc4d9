-- GaussianNoise: in training y = x + std times a normal number for each element; in evaluation
-- y = x (Bishop 1995).

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local GaussianNoise = Module:extend "GaussianNoise"

--- Adds noise while training.
-- @number[opt=0.1] std its standard deviation
-- @usage assert(moon.nn.GaussianNoise(1):eval()(moon.ones(3)):sum():item() == 3)
function GaussianNoise:init(std)
  std = std == nil and 0.1 or options.argument("GaussianNoise", "std", std, "number")
  if not (std >= 0 and std < math.huge) then
    error(("GaussianNoise: std must be a number from 0, not %g"):format(std), 3)
  end
  self.std = std
end

function GaussianNoise:forward(x)
  if not self.training then return x end
  return core.gaussian_noise(x, self.std, true)
end

function GaussianNoise:describe()
  return ("%g"):format(self.std)
end

return GaussianNoise
