-- Tensors of another run's state: whether they fit, before any is taken, and how one becomes one's
-- own, in the place of the one there is, which a CUDA graph works on, or as a new one.

local core = require "moonlet.core"

local adopt = {}

local function shape_of(tensor) return table.concat(tensor.shape, "x") end

local function is_alike(a, b)
  return a.dtype == b.dtype and a.device == b.device and shape_of(a) == shape_of(b)
end

--- Looks for a tensor that has not the shape of its parameter.
-- @tparam table dict
-- @string pattern what the keys of such tensors match, with the parameter's number captured
-- @tparam function parameter_of gives the parameter of a number, or nil
-- @treturn ?string the sentence about the first that was found
function adopt.misfit(dict, pattern, parameter_of)
  for key, value in pairs(dict) do
    local number = core.is_tensor(value) and tostring(key):match(pattern)
    local parameter = number and parameter_of(tonumber(number))
    if number and not parameter then return key .. " belongs to no parameter here" end
    if parameter and not core.is_lazy(parameter) and shape_of(parameter) ~= shape_of(value) then
      return ("%s is %s but its parameter is %s"):format(key, shape_of(value), shape_of(parameter))
    end
  end
end

--- @tparam ?Tensor own the one there is
-- @tparam Tensor tensor
-- @treturn Tensor `own` with the contents of `tensor`, or a copy that scopes leave alone
function adopt.tensor(own, tensor)
  if not core.is_tensor(own) or not is_alike(own, tensor) then return core.keep(tensor:clone()) end
  core.no_grad(own.copy_, own, tensor)
  return own
end

return adopt
