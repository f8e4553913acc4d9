-- ModuleList: modules by number, list[i] and list:size(), without a forward of its own.

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local ModuleList = Module:extend "ModuleList"

--- Makes a list of modules.
-- @tparam ?table modules to begin with
-- @usage local nn = require "moonlet".nn
-- local list = nn.ModuleList { nn.Linear(2, 2), nn.Linear(2, 2) }
-- assert(list:size() == 2)
function ModuleList:init(modules)
  if modules ~= nil then options.argument("ModuleList", "modules", modules, "table") end
  rawset(self, "_count", 0)
  for _, module in ipairs(modules or {}) do self:add(module) end
end

--- Appends a module.
function ModuleList:add(module)
  Module.check_self(self, ModuleList, "add", "list")
  if not Module.is_instance(module, Module) then
    error("ModuleList: add takes a module, not " .. options.show(module), 2)
  end
  rawset(self, "_count", self._count + 1)
  self[self._count] = module
  return self
end

--- How many there are.
function ModuleList:size()
  Module.check_self(self, ModuleList, "size", "list")
  return self._count
end

return ModuleList
