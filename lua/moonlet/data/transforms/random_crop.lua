-- random_crop: a window of the given size at a random place of each picture, after a border of
-- zeros of `padding` pixels.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"
local pad = require "moonlet.data.transforms.pad"

local RandomCrop = Transform:extend "random_crop"

RandomCrop.keeps_nothing = true

--- Cuts a random window.
-- @int size height and width of the window
-- @int[opt=0] padding border added first
-- @usage local moon = require "moonlet"
-- assert(moon.data.transforms.random_crop(8, 2)(moon.ones(5, 1, 8, 8)):size(4) == 8)
function RandomCrop:init(size, padding)
  self.window = options.argument("transforms.random_crop", "size", size, "positive")
  self.padding = padding == nil and 0
    or options.argument("transforms.random_crop", "padding", padding, "integer")
  self:remember(NAME, self.window, self.padding)
end

function RandomCrop:apply(x)
  if self.padding > 0 then x = pad(self.padding):apply(x) end
  local n, c, h, w = x:size(1), x:size(2), x:size(3), x:size(4)
  local size = self.window
  if h < size or w < size then
    error(("random_crop: the picture is %dx%d with its border, smaller than %d"):format(
      h, w, size), 0)
  end
  local rows = core.randint(1, h - size + 1, { n }):totable()
  local columns = core.randint(1, w - size + 1, { n }):totable()
  local cropped = core.empty(n, c, size, size, { dtype = x.dtype })
  for i = 1, n do
    local window = x:select(1, i):narrow(2, rows[i], size):narrow(3, columns[i], size)
    cropped:select(1, i):copy_(window)
  end
  return cropped
end

return RandomCrop
