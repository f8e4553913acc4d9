-- Parallel: the same input through several branches, whose outputs are joined along a dimension or
-- added, as in Inception's blocks (Szegedy et al. 2015).

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Parallel = Module:extend "Parallel"

local schema = { join = { { "concat", "add" }, "concat" }, dim = { "integer", 2 } }

local function is_branch(value)
  return type(value) == "function" or Module.is_instance(value, Module)
end

--- Makes branches of modules and functions.
-- @tparam table branches a list
-- @tparam ?table given join = "concat" (along dim = 2, the channels) or "add"
-- @usage local moon = require "moonlet"
-- local nn = moon.nn
-- local block = nn.Parallel { nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 3, { padding = 1 }) }
-- assert(block(moon.zeros(1, 3, 5, 5)):size(2) == 12)
function Parallel:init(branches, given)
  options.argument("Parallel", "branches", branches, "table")
  local o = options.read("Parallel", given, schema)
  if #branches == 0 then error("Parallel: the list of branches is empty", 3) end
  for i, branch in ipairs(branches) do
    if not is_branch(branch) then
      error(("Parallel: branch %d must be a module or a function, not %s"):format(
        i, options.show(branch)), 3)
    end
    self[i] = branch
  end
  rawset(self, "_count", #branches)
  self.join, self.dim = o.join, o.dim
end

--- How many branches there are.
function Parallel:size()
  Module.check_self(self, Parallel, "size", "net")
  return self._count
end

function Parallel:forward(...)
  local outputs = {}
  for i = 1, self._count do outputs[i] = self[i](...) end
  if self.join == "concat" then return core.cat(outputs, self.dim) end
  local sum = outputs[1]
  for i = 2, #outputs do sum = sum:add(outputs[i]) end
  return sum
end

function Parallel:describe()
  if self.join == "add" then return 'join = "add"' end
  return self.dim == 2 and "" or ("dim = %d"):format(self.dim)
end

return Parallel
