-- random_crop: a window of the given size at a random place of each picture, after a border of
-- zeros of `padding` pixels. On the CPU windows are copied one by one, at the speed of memory; on
-- another device all of them in one pass.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"
local affine = require "moonlet.data.affine"
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
    or options.argument("transforms.random_crop", "padding", padding, "count")
  self:remember(NAME, self.window, self.padding)
end

-- Windows that begin at these rows and columns of the pictures with their border.
local function copy(self, x, rows, columns)
  local n, c, size = x:size(1), x:size(2), self.window
  if self.padding > 0 then x = pad(self.padding):apply(x) end
  rows, columns = rows:totable(), columns:totable()
  local cropped = core.empty(n, c, size, size, { dtype = x.dtype })
  for i = 1, n do
    local window = x:select(1, i):narrow(2, rows[i], size):narrow(3, columns[i], size)
    cropped:select(1, i):copy_(window)
  end
  return cropped
end

-- Of a length of `whole` pixels the window's centre, where the whole goes from -1 to 1.
local function centre(self, first, whole)
  return first:float():sub_(1 + self.padding):mul_(2 / whole):add_(self.window / whole - 1)
end

-- The same. Pixels lie on pixels, and the border is what lies outside of the picture.
local function sample(self, x, rows, columns)
  local size, h, w = self.window, x:size(3), x:size(4)
  local across, down = centre(self, columns, w), centre(self, rows, h)
  local none = core.zeros_like(across)
  local map = { none + size / w, none, across, none, none + size / h, down }
  return affine(x, map, size, size, { mode = "nearest" })
end

function RandomCrop:apply(x)
  local n, size = x:size(1), self.window
  local h, w = x:size(3) + 2 * self.padding, x:size(4) + 2 * self.padding
  if h < size or w < size then
    error(("random_crop: the picture is %dx%d with its border, smaller than %d"):format(
      h, w, size), 0)
  end
  local rows = core.randint(1, h - size + 1, { n }, { device = x.device })
  local columns = core.randint(1, w - size + 1, { n }, { device = x.device })
  return (x.device == "cpu" and copy or sample)(self, x, rows, columns)
end

return RandomCrop
