-- The starting values layers take unless told otherwise: uniform in +-1/sqrt(fan in) for weight and
-- bias, the same as PyTorch's, so that published recipes carry over.

local core = require "moonlet.core"

local function fill(weight, bias)
  local size = weight:size()
  local fan_in = 1
  for i = 2, #size do fan_in = fan_in * size[i] end
  local bound = fan_in > 0 and 1 / math.sqrt(fan_in) or 0
  weight:uniform_(-bound, bound)
  if bias then bias:uniform_(-bound, bound) end
end

return function(weight, bias) core.no_grad(fill, weight, bias) end
