-- Layers that pad the last one, two or three dimensions, a row for each kind: ZeroPad2d,
-- ConstantPad1d, ReflectionPad2d, ReplicationPad3d, CircularPad1d and so on.
-- x (n, c, ..., w), y (n, c, ..., left + w + right)

local core = require "moonlet.core"
local options = require "moonlet.options"
local pair = require "moonlet.nn.pair"
local Module = require "moonlet.nn.module"

-- kind: mode of moon.pad
local rows = {
  ZeroPad = "constant", ConstantPad = "constant", ReflectionPad = "reflect",
  ReplicationPad = "replicate", CircularPad = "circular",
}

local sides = { "{left, right}", "{left, right, top, bottom}",
                "{left, right, top, bottom, front, back}" }

local function is_whole(value)
  return type(value) == "number" and value == math.floor(value) and value - value == 0
end

-- The numbers of moon.pad, or nil where they are no numbers.
local function read_pads(padding, dims)
  if is_whole(padding) then return pair.list(padding, 2 * dims) end
  if type(padding) ~= "table" or #padding ~= 2 * dims then return nil end
  local list = {}
  for i = 1, 2 * dims do
    if not is_whole(padding[i]) then return nil end
    list[i] = padding[i]
  end
  return list
end

-- "ReflectionPad2d" with padding and, for ConstantPad, a value.
local function make(kind, mode, dims)
  local name = ("%s%dd"):format(kind, dims)
  local Layer = Module:extend(name)

  function Layer:init(padding, value)
    local list = read_pads(padding, dims)
    if not list then
      error(("%s: padding must be a whole number or a list %s, not %s"):format(
        name, sides[dims], options.show(padding)), 3)
    end
    if kind == "ConstantPad" then
      self.value = options.argument(name, "value", value, "number")
    elseif value ~= nil then
      error(("%s: takes only padding, but got %s too"):format(name, options.show(value)), 3)
    end
    self.padding = padding
    rawset(self, "pads", list)
  end

  function Layer:forward(x)
    return core.pad(x, self.pads, mode, self.value or 0)
  end

  function Layer:describe()
    local text = pair.text(self.padding)
    return self.value and ("%s, %g"):format(text, self.value) or text
  end

  return Layer
end

--- Layers that pad: padding is a whole number for every side or a list of them, the last dimension
-- first; ConstantPad layers take the constant as a second argument.
-- @function ReflectionPad2d(padding)
-- @param padding a whole number or {left, right, top, bottom}; negative numbers cut
-- @usage local moon = require "moonlet"
-- local pad = moon.nn.ReflectionPad2d { 1, 0, 2, 1 }
-- assert(pad(moon.zeros(1, 1, 4, 5)):size(3) == 7)
-- assert(moon.nn.ConstantPad1d(2, 9)(moon.zeros(1, 1, 3))[{ 1, 1, 1 }] == 9)
local M = {}
for kind, mode in pairs(rows) do
  for dims = 1, 3 do M[("%s%dd"):format(kind, dims)] = make(kind, mode, dims) end
end
return M
