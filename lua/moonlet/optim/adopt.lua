-- A tensor of another run's state becomes one's own: in the place of the one there is, which a CUDA
-- graph works on, or as a new one.

local core = require "moonlet.core"

local function is_alike(a, b)
  return a.dtype == b.dtype and a.device == b.device and
    table.concat(a.shape, "x") == table.concat(b.shape, "x")
end

-- @tparam ?Tensor own the one there is
-- @tparam Tensor tensor
-- @treturn Tensor `own` with the contents of `tensor`, or a copy that scopes leave alone
return function(own, tensor)
  if not core.is_tensor(own) or not is_alike(own, tensor) then return core.keep(tensor:clone()) end
  core.no_grad(own.copy_, own, tensor)
  return own
end
