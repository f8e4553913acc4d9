-- color_jitter: each picture gets a brightness, contrast, saturation and hue of its own, in this
-- order; floats from 0 to 1, to which every step limits them.

local NAME = ...
local core = require "moonlet.core"
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"
local draw = require "moonlet.data.draw"

local ColorJitter = Transform:extend "color_jitter"

ColorJitter.keeps_nothing = true

local RED, GREEN, BLUE = 0.299, 0.587, 0.114   -- ITU-R BT.601's shares of lightness
local SECTORS = 6                              -- of the circle of hues, red to red

local function channels(x) return x:narrow(2, 1, 1), x:narrow(2, 2, 1), x:narrow(2, 3, 1) end

local function gray(x)
  if x:size(2) == 1 then return x end
  local r, g, b = channels(x)
  return r * RED + g * GREEN + b * BLUE
end

local function blend(x, other, factor)
  return (x * factor + other * (1 - factor)):clamp(0, 1)
end

-- The hue in sectors, from the two channels that are not the largest.
local function hue_of(r, g, b, value, chroma)
  local unit = core.where(chroma:eq(0), 1, chroma)   -- grey has any
  return core.where(value:eq(r), (g - b) / unit,
    core.where(value:eq(g), (b - r) / unit + 2, (r - g) / unit + 4))
end

-- Each channel is its value less chroma * clamp(min(k, 4 - k), 0, 1), where k goes round with the
-- hue, from 5 for red, 3 for green and 1 for blue.
local function turn_hue(x, turn)
  local r, g, b = channels(x)
  local value = r:maximum(g):maximum(b)
  local chroma = value - r:minimum(g):minimum(b)
  local hue = hue_of(r, g, b, value, chroma) + turn * SECTORS
  local function channel(start)
    local k = (hue + start):remainder(SECTORS)
    return value - chroma * k:minimum(4 - k):clamp(0, 1)
  end
  return core.cat({ channel(5), channel(3), channel(1) }, 2)
end

local stages = {
  { "brightness", function(x, factor) return (x * factor):clamp(0, 1) end },
  { "contrast", function(x, factor)
    return blend(x, gray(x):mean({ 2, 3, 4 }, { keepdim = true }), factor)
  end },
  { "saturation", function(x, factor) return blend(x, gray(x), factor) end },
  { "hue", turn_hue },
}

local schema = {
  brightness = { "any" }, contrast = { "any" }, saturation = { "any" }, hue = { "any" },
}

local function interval_of(name, given)
  local interval = draw.interval("color_jitter: " .. name, given, name == "hue" and 0 or 1)
  if name ~= "hue" then return { math.max(0, interval[1]), math.max(0, interval[2]) } end
  if interval[1] >= -0.5 and interval[2] <= 0.5 then return interval end
  error("transforms.color_jitter: hue must lie between -0.5 and 0.5, parts of the circle", 4)
end

--- Changes colours at random. What is left out stays as it is.
-- @tparam table given brightness, contrast, saturation: a number b for factors from 1 - b (not
-- below 0) to 1 + b, or {low, high}; hue: a number h to 0.5 for turns by -h to h of the circle, or
-- {low, high}
-- @usage local moon = require "moonlet"
-- local jitter = moon.data.transforms.color_jitter { brightness = 0.4, hue = 0.1 }
-- assert(jitter(moon.rand(4, 3, 8, 8)):max():item() <= 1)
function ColorJitter:init(given)
  local o = options.read("transforms.color_jitter", given, schema)
  self.intervals = {}
  for _, stage in ipairs(stages) do
    local name = stage[1]
    if o[name] ~= nil then self.intervals[name] = interval_of(name, o[name]) end
  end
  self:remember(NAME, given or {})
end

function ColorJitter:apply(x)
  local count = x:size(2)
  if count ~= 1 and count ~= 3 then
    error(("color_jitter: wants pictures of 1 or 3 channels, not %d"):format(count), 0)
  end
  for _, stage in ipairs(stages) do
    local name, change = stage[1], stage[2]
    local interval = self.intervals[name]
    if interval then
      local amount = draw.uniform(x, interval):view(-1, 1, 1, 1):to(x.dtype)
      if count == 3 or name == "brightness" or name == "contrast" then x = change(x, amount) end
    end
  end
  return x
end

return ColorJitter
