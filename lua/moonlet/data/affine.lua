-- Pictures taken from others through an affine map each: one pass over the batch on any device.

local core = require "moonlet.core"

--- The pixel at (x, y) is taken from (a x + b y + e, c x + d y + f), coordinates going from -1 to 1
-- between the outer edges of the pictures. Calculated in float32, or in float64 where pictures are.
-- @tparam tensor pictures (n, c, h, w)
-- @tparam table map { a, b, e, c, d, f }: float32 tensors (n)
-- @int height of the result
-- @int width of the result
-- @tparam table given mode and padding_mode as grid_sample's
-- @treturn tensor (n, c, height, width), of the pictures' type
return function(pictures, map, height, width, given)
  local wide = pictures.dtype == "float64" and pictures or pictures:to("float32")
  local theta = core.stack(map, 2):view(-1, 2, 3):to(wide.dtype)
  local size = { wide:size(1), wide:size(2), height, width }
  return core.grid_sample(wide, core.affine_grid(theta, size), given):to(pictures.dtype)
end
