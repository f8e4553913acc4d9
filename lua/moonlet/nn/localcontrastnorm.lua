-- LocalContrastNorm: each pixel minus the mean of its neighbourhood in all channels, over the
-- neighbourhood's deviation (Jarrett, Kavukcuoglu, Ranzato and LeCun 2009). x and y (n, c, h, w)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local LocalContrastNorm = Module:extend "LocalContrastNorm"

local schema = { threshold = { "number", 1e-4 }, kernel = { "tensor" } }

--- Evens out brightness and contrast of pictures.
-- @int[opt=9] size of the neighbourhood, odd
-- @tparam ?table given threshold = 1e-4, the least deviation divided by; kernel, weights of the
-- neighbourhood (kh, kw) in place of an even one
-- @usage local y = moon.nn.LocalContrastNorm(3)(moon.rand(1, 3, 8, 8))
-- assert(y:size(4) == 8)
function LocalContrastNorm:init(size, given)
  if size == nil then size = 9 end
  options.argument("LocalContrastNorm", "size", size, "positive")
  if size % 2 == 0 then
    error(("LocalContrastNorm: size must be odd, not %d"):format(size), 3)
  end
  local o = options.read("LocalContrastNorm", given, schema)
  self.window, self.threshold = size, o.threshold
  if o.kernel then self:register_buffer("kernel", o.kernel) end
end

function LocalContrastNorm:forward(x)
  return core.local_contrast_norm(x, self.kernel, self.window, self.threshold)
end

function LocalContrastNorm:describe()
  return ("%d, threshold = %g"):format(self.window, self.threshold)
end

return LocalContrastNorm
