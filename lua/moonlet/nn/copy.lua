-- Copies of modules: every table and tensor of the tree is made anew, what was shared inside stays
-- shared, functions and what they hold are the same.

local core = require "moonlet.core"

local function copy_tensor(tensor)
  if core.is_lazy(tensor) then return core.lazy_tensor() end
  local made = tensor:detach():clone()
  if tensor.requires_grad and tensor.is_leaf then made:requires_grad_(true) end
  return core.keep(made)
end

local copy

local function copy_table(value, made)
  local meta = getmetatable(value)
  local is_module = type(meta) == "table" and meta.is_moonlet_module
  if meta ~= nil and not is_module then return value end
  local result = {}
  made[value] = result
  for key, field in pairs(value) do rawset(result, key, copy(field, made)) end
  return setmetatable(result, meta)
end

function copy(value, made)
  if made[value] ~= nil then return made[value] end
  if type(value) == "table" then return copy_table(value, made) end
  if type(value) == "userdata" and core.is_tensor(value) then
    made[value] = copy_tensor(value)
    return made[value]
  end
  return value
end

--- A copy of a module, sharing nothing that changes.
-- @tparam Module module
return function(module) return core.no_grad(copy, module, {}) end
