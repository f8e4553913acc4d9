-- ModuleDict: modules by name, dict.name, without a forward of its own; names keep their order.

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local ModuleDict = Module:extend "ModuleDict"

--- Makes a dictionary of modules.
-- @tparam ?table modules name to module, added in the order of their names
-- @usage local nn = require "moonlet".nn
-- local heads = nn.ModuleDict { mean = nn.Linear(4, 1), class = nn.Linear(4, 10) }
-- assert(heads.class.outputs == 10 and heads:size() == 2)
function ModuleDict:init(modules)
  rawset(self, "_names", {})
  options.argument("ModuleDict", "modules", modules or {}, "table")
  local names = {}
  for name in pairs(modules or {}) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do self:add(name, modules[name]) end
end

--- Adds a module, or puts another in place of the one of that name.
function ModuleDict:add(name, module)
  Module.check_self(self, ModuleDict, "add", "dict")
  local known = rawget(self, name) ~= nil
  if type(name) ~= "string" or (not known and self[name] ~= nil) or name:find("%.") then
    error(("ModuleDict: %s cannot be a name here"):format(options.show(name)), 2)
  end
  if not Module.is_instance(module, Module) then
    error(("ModuleDict: %s must be a module, not %s"):format(name, options.show(module)), 2)
  end
  if not known then self._names[#self._names + 1] = name end
  self[name] = module
  return self
end

--- How many there are.
function ModuleDict:size()
  Module.check_self(self, ModuleDict, "size", "dict")
  return #self._names
end

--- The names in order, as a list.
function ModuleDict:names()
  Module.check_self(self, ModuleDict, "names", "dict")
  local list = {}
  for i, name in ipairs(self._names) do list[i] = name end
  return list
end

return ModuleDict
