-- Lambda: a function as a layer, y = f(x, ...).

local options = require "moonlet.options"
local Module = require "moonlet.nn.module"

local Lambda = Module:extend "Lambda"

--- Makes a layer of a function.
-- @param fn what forward calls
-- @string[opt] name how it is printed
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Lambda(function(x) return x:mul(2) end, "twice")
-- assert(net(moon.ones(1)):item() == 2)
function Lambda:init(fn, name)
  options.argument("Lambda", "fn", fn, "callable")
  rawset(self, "fn", fn)
  self.name = name == nil and "function" or options.argument("Lambda", "name", name, "string")
end

function Lambda:forward(...) return self.fn(...) end

function Lambda:describe() return self.name end

return Lambda
