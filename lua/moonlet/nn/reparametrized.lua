-- What nn.weight_norm and nn.spectral_norm share: a layer whose parameter is calculated anew, from
-- others, before each forward. The layer becomes an instance of a class of its own, below its old
-- one; the calculated tensor is a plain field, neither a parameter nor saved.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Module = require "moonlet.nn.module"

local M = {}

-- Takes a parameter out of the module's fields.
local function forget(layer, name)
  for i, key in ipairs(layer._fields) do
    if key == name then table.remove(layer._fields, i) break end
  end
  layer._kinds[name] = nil
  rawset(layer, name, nil)
end

--- Checks the arguments of a reparametrisation and gives the parameter.
function M.parameter_of(owner, layer, name)
  if not Class.is_instance(layer, Module) then
    error(("%s: the first argument is a layer, not %s"):format(owner, options.show(layer)), 3)
  end
  local value = rawget(layer, name)
  if not core.is_tensor(value) or rawget(layer, "_kinds")[name] ~= "parameter" then
    error(("%s: %s has no parameter %s"):format(owner, layer.class_name, name), 3)
  end
  if core.is_lazy(value) then
    error(("%s: %s has no shape yet; pass one batch through the layer first"):format(
      owner, layer.class_name), 3)
  end
  return value
end

--- Puts calculate(layer) in the place of a parameter.
-- @tparam Module layer changed in place
-- @string name the parameter's
-- @string label what describe adds
-- @func calculate gives the tensor
function M.apply(layer, name, label, calculate)
  local Plain = getmetatable(layer)
  local Changed = Plain:extend(Plain.class_name)
  Changed.reparametrized = { name = name, label = label, plain = Plain, calculate = calculate }

  function Changed:forward(...)
    rawset(self, name, core.keep(calculate(self)))   -- to be read after a scope, too
    return Plain.forward(self, ...)
  end

  function Changed:describe()
    local text = Plain.describe(self)
    return text == "" and label or text .. ", " .. label
  end

  forget(layer, name)
  setmetatable(layer, Changed)
  return layer
end

--- Turns the calculated tensor into a parameter again and drops the names it was made from.
function M.remove(owner, label, layer, parts)
  local changed = Class.is_instance(layer, Module) and rawget(getmetatable(layer), "reparametrized")
  if not changed or changed.label ~= label then
    error(("%s: this layer has no %s, or another one was put above it"):format(owner, label), 3)
  end
  local value = core.no_grad(changed.calculate, layer)
  for _, part in ipairs(parts) do forget(layer, changed.name .. part) end
  rawset(layer, changed.name, nil)
  setmetatable(layer, changed.plain)
  layer:register_parameter(changed.name, value:detach())
  return layer
end

return M
