-- What specs of grid_sample go over: every mode and padding, and grids whose positions lie near and
-- far, between pixels and at odd places.
local moon = require "moonlet"

local grids = {}

-- Calls visit(options, dims) for every mode, padding and alignment, of images of 2 and 3
-- dimensions.
function grids.each(visit)
  for dims = 2, 3 do
    for _, mode in ipairs { "bilinear", "nearest", dims == 2 and "bicubic" or nil } do
      for _, padding in ipairs { "zeros", "border", "reflection" } do
        for _, align in ipairs { false, true } do
          visit({ mode = mode, padding_mode = padding, align_corners = align }, dims)
        end
      end
    end
  end
end

-- A grid (n, ..., dims) for a result of n images and these sides; a tenth of its numbers are far
-- outside, infinite or NaN.
function grids.random(n, sides, dtype)
  local shape = { n }
  for _, side in ipairs(sides) do shape[#shape + 1] = side end
  shape[#shape + 1] = #sides
  local grid = moon.rand(shape) * 3.2 - 1.6
  for i, odd in ipairs { 1e30, -1e30, 57, math.huge, -math.huge, 0 / 0 } do
    grid = moon.where(moon.rand(shape):lt(i / 300), moon.tensor(odd), grid)
  end
  return grid:to(dtype)
end

-- The image (n, c, rows, columns) seen as a volume of slices of so many rows.
function grids.volume(x, rows) return x:unfold(3, rows, rows):permute(1, 2, 3, 5, 4) end

return grids
