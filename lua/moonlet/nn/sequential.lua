-- Sequential: modules or functions one after the other, y = f_n(... f_2(f_1(x))).
-- net[i] is the i-th; names count from 1 unless given with `add`. Neighbours that one pass over
-- memory can do are done in one, see fusion.lua.

local options = require "moonlet.options"
local fusion = require "moonlet.nn.fusion"
local Module = require "moonlet.nn.module"

local Sequential = Module:extend "Sequential"

local function checked(child, place)
  if type(child) == "function" or type(child) == "table" and Module.is(child, Module) then
    return child
  end
  error(("Sequential: child %s must be a module or a function, not %s"):format(
    place, options.show(child)), 4)
end

--- Makes a chain of modules and functions.
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Sequential(moon.nn.Linear(4, 3), moon.relu, moon.nn.Linear(3, 2))
-- assert(net(moon.zeros(5, 4)):size(2) == 2)
function Sequential:init(...)
  rawset(self, "_chain", {})
  for i = 1, select("#", ...) do
    local child = checked((select(i, ...)), i)
    self._chain[i] = i
    self[i] = child
  end
end

--- Appends a child under its number or a name of its own: net:add(layer), net:add("head", layer).
function Sequential:add(name, child)
  Module.check_self(self, Sequential, "add", "net")
  if child == nil then name, child = #self._chain + 1, name end
  if type(name) == "string" and self[name] ~= nil then
    error(('Sequential: the name "%s" is taken'):format(name), 2)
  end
  self._chain[#self._chain + 1] = name
  self[name] = checked(child, name)
  return self
end

--- How many children there are.
function Sequential:size()
  Module.check_self(self, Sequential, "size", "net")
  return #self._chain
end

function Sequential:forward(x, ...)
  local chain = self._chain
  local i, count = 1, #chain
  if select("#", ...) > 0 and count > 0 then
    x = self[chain[1]](x, ...)
    i = 2
  end
  while i <= count do
    local child = self[chain[i]]
    local start = fusion[getmetatable(child)]
    if start then
      local done
      x, done = start(child, self[chain[i + 1]], self[chain[i + 2]], x)
      i = i + done
    else
      x = child(x)
      i = i + 1
    end
  end
  return x
end

return Sequential
