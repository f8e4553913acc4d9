-- Arrays of shape (n, h, w, c) seen as images (n, c, h, w) that lie in several ways: what kernels
-- that take channels side by side, or planes, are tested with.
local moon = require "moonlet"

local pixels = {}

-- (n, h, w, c) as an image whose channels lie side by side, or as planes.
pixels.layouts = {
  pixels = function(x) return x:permute(1, 4, 2, 3) end,
  planes = function(x) return x:permute(1, 4, 2, 3):contiguous() end,
  ["cut pixels"] = function(x)
    local n, h, w, c = x:size(1), x:size(2), x:size(3), x:size(4)
    local wide = moon.zeros(n, h + 1, w, c + 3, { dtype = x.dtype, device = x.device })
    return moon.cat({ wide:narrow(4, 1, 3):narrow(2, 1, h), x }, 4):narrow(4, 4, c)
      :permute(1, 4, 2, 3)
  end,
}

-- Calls visit(layout, shape, dtype, tolerance) for each layout and shape in float32, and for the
-- first shape in every dtype that `tolerances` has.
function pixels.each(shapes, tolerances, visit)
  for _, layout in pairs(pixels.layouts) do
    for _, shape in ipairs(shapes) do visit(layout, shape, "float32", tolerances.float32) end
    for dtype, tolerance in pairs(tolerances) do
      if dtype ~= "float32" then visit(layout, shapes[1], dtype, tolerance) end
    end
  end
end

return pixels
