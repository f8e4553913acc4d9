-- Divides the gradients of an optimiser's parameters by a factor, and tells whether all are finite.

local core = require "moonlet.core"

local function gradients_of(optimizer)
  local list = {}
  for _, entry in ipairs(optimizer.entries) do
    local gradient = not core.is_lazy(entry.parameter) and entry.parameter.grad
    if gradient then list[#list + 1] = gradient end
  end
  return list
end

-- NaN is the largest of numbers, and so is what it gives less itself, as infinity does.
local function divide(gradients, inverse_for)
  local largest = {}
  for _, gradient in ipairs(gradients) do
    gradient:mul_(inverse_for(gradient))
    if gradient:numel() > 0 then largest[#largest + 1] = gradient:abs():max():float() end
  end
  if #largest == 0 then return nil end
  local most = core.stack(largest):max()
  return most - most
end

-- @tparam Optimizer optimizer
-- @func inverse_for gives what a gradient is multiplied by, a number or a tensor of its type
-- @treturn ?Tensor one float32 where the gradients are: 0 if all are finite, else NaN; nil if there
-- are none
return function(optimizer, inverse_for)
  return core.scope(core.no_grad, divide, gradients_of(optimizer), inverse_for)
end
