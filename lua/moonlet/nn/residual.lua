-- Residual: y = body(x) + shortcut(x); the shortcut is x itself unless a module is given, as a 1x1
-- convolution where the number of channels changes (He et al. 2016).

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Residual = Module:extend "Residual"

local function checked(name, value)
  if type(value) == "function" or Module.is_instance(value, Module) then return value end
  error(("Residual: %s must be a module or a function, not %s"):format(
    name, options.show(value)), 4)
end

--- Puts a path around a module.
-- @param body a module or a function
-- @param[opt] shortcut a module or a function
-- @usage local moon = require "moonlet"
-- local block = moon.nn.Residual(moon.nn.Linear(4, 4), moon.nn.Identity())
-- assert(block(moon.zeros(2, 4)):size(2) == 4)
function Residual:init(body, shortcut)
  self.body = checked("body", body)
  if shortcut ~= nil then self.shortcut = checked("shortcut", shortcut) end
end

function Residual:forward(x)
  local around = x
  if self.shortcut then around = self.shortcut(x) end
  return self.body(x):add(around)
end

return Residual
