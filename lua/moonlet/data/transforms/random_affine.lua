-- random_affine: each picture is sheared, scaled, turned and moved by amounts of its own. A point
-- at (x, y) from the centre, y downwards, goes to
--
--   s R(t) (x - y tan k, y) + (u, v)       R(t) = [cos t, -sin t; sin t, cos t]: clockwise

local NAME = ...
local options = require "moonlet.options"
local Transform = require "moonlet.data.transform"
local affine = require "moonlet.data.affine"
local draw = require "moonlet.data.draw"

local RandomAffine = Transform:extend "random_affine"

RandomAffine.keeps_nothing = true

local schema = {
  degrees = { "any", 0 }, translate = { "table", { 0, 0 } }, scale = { "table", { 1, 1 } },
  shear = { "any", 0 }, mode = { { "nearest", "bilinear", "bicubic" }, "bilinear" },
  padding_mode = { { "zeros", "border", "reflection" }, "zeros" },
}

local function radians(interval) return { math.rad(interval[1]), math.rad(interval[2]) } end

local function check_share(value)
  return options.argument("transforms.random_affine", "translate", value, "share", 5)
end

--- Moves pictures at random.
-- @tparam ?table given degrees = 0 (angles from -degrees to degrees, or {low, high}), translate =
-- {0, 0} (shares of width and height that pictures move at most), scale = {1, 1} (from, to), shear
-- = 0 (degrees along x, as degrees), mode = "bilinear" or "nearest" or "bicubic", padding_mode =
-- "zeros" or "border" or "reflection" (what comes in from outside)
-- @usage local moon = require "moonlet"
-- local turn = moon.data.transforms.random_affine { degrees = 15, translate = { 0.1, 0.1 } }
-- assert(turn(moon.rand(4, 3, 8, 8)):size(4) == 8)
function RandomAffine:init(given)
  local o = options.read("transforms.random_affine", given, schema)
  self.angle = radians(draw.interval("random_affine: degrees", o.degrees, 0))
  self.shear = radians(draw.interval("random_affine: shear", o.shear, 0))
  self.scale = draw.interval("random_affine: scale", o.scale, 1)
  if self.scale[1] <= 0 then error("transforms.random_affine: scale must be above 0", 3) end
  local across, down = check_share(o.translate[1]), check_share(o.translate[2])
  self.across, self.down = { -across, across }, { -down, down }
  self.sampling = { mode = o.mode, padding_mode = o.padding_mode }
  self:remember(NAME, given or {})
end

-- Where pixels come from: the inverse, with x and y from -1 to 1 over `w` and `h` pixels.
function RandomAffine:apply(x)
  local h, w = x:size(3), x:size(4)
  local angle, scale = draw.uniform(x, self.angle), draw.uniform(x, self.scale)
  local shear = draw.uniform(x, self.shear):tan()
  local u, v = draw.uniform(x, self.across) * 2, draw.uniform(x, self.down) * 2
  local cos, sin = angle:cos() / scale, angle:sin() / scale
  local a, b = cos - sin * shear, (sin + cos * shear) * (h / w)
  local c, d = sin * (-w / h), cos
  local map = { a, b, -(a * u + b * v), c, d, -(c * u + d * v) }
  return affine(x, map, h, w, self.sampling)
end

return RandomAffine
