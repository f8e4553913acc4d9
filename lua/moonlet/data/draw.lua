-- Draws for random transforms: one number a picture, on the pictures' device, where the same seed
-- gives the same numbers as on the CPU.

local core = require "moonlet.core"

local M = {}

--- The interval that an option names: value - amount ... value + amount for a number, or what a
-- list says.
-- @string what the option, for the error
-- @param given a number from 0, or {low, high}
-- @number middle
-- @treturn table {low, high}
function M.interval(what, given, middle)
  if type(given) == "number" and given >= 0 then return { middle - given, middle + given } end
  local low, high
  if type(given) == "table" then low, high = given[1], given[2] end
  if type(low) ~= "number" or type(high) ~= "number" or #given ~= 2 or low > high then
    error(("transforms.%s must be a number from 0 or a list {low, high}"):format(what), 4)
  end
  return { low, high }
end

--- A float32 for each picture.
-- @tparam tensor x (n, c, h, w)
-- @tparam table interval {low, high}
-- @treturn tensor (n)
function M.uniform(x, interval)
  local low, high = interval[1], interval[2]
  return core.rand({ x:size(1) }, { device = x.device }):mul_(high - low):add_(low)
end

return M
