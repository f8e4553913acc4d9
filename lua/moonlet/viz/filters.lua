-- viz.filters: a grid of the first convolution's filters as a PNG, each scaled to its own darkest
-- and brightest value and enlarged without smoothing.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Module = require "moonlet.nn.module"

local schema = {
  scale = { "positive" }, columns = { "positive" }, gap = { "integer", 1 },
}
local TARGET_PIXELS = 64   -- aimed at width of one filter
local BACKGROUND = 1

-- The weight of the first convolution of a net; a tensor passes through.
local function weight_of(source)
  if core.is_tensor(source) then return source:detach() end
  if Class.is_instance(source, Module) then
    for _, module in source:named_modules() do
      local weight = rawget(module, "weight")
      if weight and weight:dim() == 4 then return weight:detach() end
    end
  end
  error("viz.filters: wants a net with a Conv2d or a weight (out, in, h, w)", 4)
end

-- (h, w) or (3, h, w) from 0 to 1; colour only when the filter looks at three channels.
local function normalised(filter)
  if filter:size(1) ~= 3 then filter = filter:narrow(1, 1, 1) end
  local low, high = filter:min():item(), filter:max():item()
  local range = high > low and high - low or 1
  return filter:sub(low):div(range)
end

-- Nearest-neighbour enlargement of (c, h, w).
local function enlarged(filter, scale)
  local c, h, w = filter:size(1), filter:size(2), filter:size(3)
  return filter:reshape(c, h, 1, w, 1):expand(c, h, scale, w, scale)
    :reshape(c, h * scale, w * scale)
end

local function draw(weight, o)
  local count, channels = weight:size(1), weight:size(2) == 3 and 3 or 1
  local scale = o.scale or math.max(1, math.floor(TARGET_PIXELS / weight:size(4)))
  local h, w, gap = weight:size(3) * scale, weight:size(4) * scale, o.gap * 4
  local columns = o.columns or math.ceil(math.sqrt(count))
  local rows = math.ceil(count / columns)
  local picture = core.full({ channels, rows * (h + gap) + gap, columns * (w + gap) + gap },
    BACKGROUND)
  for i = 1, count do
    local row, column = math.floor((i - 1) / columns), (i - 1) % columns
    local cell = picture:narrow(2, row * (h + gap) + gap + 1, h)
      :narrow(3, column * (w + gap) + gap + 1, w)
    cell:copy_(enlarged(normalised(weight:select(1, i)), scale))
  end
  return picture
end

--- Draws the filters of a net's first convolution.
-- @param source a net, or a weight (out, in, h, w)
-- @string path the PNG to write
-- @tparam ?table given scale (pixels a weight), columns, gap = 1
-- @usage local moon = require "moonlet"
-- local path = os.tmpname()
-- moon.viz.filters(moon.nn.Conv2d(1, 4, 3), path)
-- os.remove(path)
return function(source, path, given)
  local o = options.read("viz.filters", given, schema, 3)
  local picture = core.no_grad(draw, weight_of(source):cpu():to("float32"), o)
  core.image_save(path, picture)
  return true
end
