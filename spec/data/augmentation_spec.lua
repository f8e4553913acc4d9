-- Random affine maps and colours of batches against the definition, pixel by pixel.
local moon = require "moonlet"
local t = moon.data.transforms

local function largest(a, b) return (a - b):abs():max():item() end

-- What each transform draws for picture i, in its order: intervals are {low, high}.
local function draws(count, intervals)
  local list = {}
  for k, interval in ipairs(intervals) do
    list[k] = (moon.rand(count) * (interval[2] - interval[1]) + interval[1]):totable()
  end
  return list
end

-- -- affine maps

-- The pixel (row, column) of one channel, 0 outside.
local function pixel(rows, i, j) return rows[i] and rows[i][j] or 0 end

-- At a row and a column that are no whole numbers.
local function between(rows, i, j)
  local top, left = math.floor(i), math.floor(j)
  local down, across = i - top, j - left
  return (1 - down) * ((1 - across) * pixel(rows, top, left) + across * pixel(rows, top, left + 1))
    + down * ((1 - across) * pixel(rows, top + 1, left) + across * pixel(rows, top + 1, left + 1))
end

-- One channel, moved: for each pixel of the result the map's equations are solved for the point
-- that goes there.
local function moved(rows, h, w, m)
  local result = {}
  local cos, sin = math.cos(m.angle), math.sin(m.angle)
  for i = 1, h do
    result[i] = {}
    for j = 1, w do
      local x = (j - (w + 1) / 2 - m.u * w) / m.scale
      local y = (i - (h + 1) / 2 - m.v * h) / m.scale
      local back_x, back_y = cos * x + sin * y, -sin * x + cos * y   -- turned back
      back_x = back_x + back_y * math.tan(m.shear)
      result[i][j] = between(rows, back_y + (h + 1) / 2, back_x + (w + 1) / 2)
    end
  end
  return result
end

describe("transforms.random_affine", function()
  it("shears, scales, turns and moves each picture by its own draws", function()
    local x = moon.rand(4, 2, 5, 7)
    local transform = t.random_affine {
      degrees = 50, translate = { 0.2, 0.3 }, scale = { 0.7, 1.4 }, shear = { -10, 30 },
    }
    moon.manual_seed(3)
    local y = transform(x)
    moon.manual_seed(3)
    local d = draws(4, { { -50, 50 }, { 0.7, 1.4 }, { -10, 30 }, { -0.2, 0.2 }, { -0.3, 0.3 } })
    for i = 1, 4 do
      local m = { angle = math.rad(d[1][i]), scale = d[2][i], shear = math.rad(d[3][i]),
        u = d[4][i], v = d[5][i] }
      for c = 1, 2 do
        local expected = moon.tensor(moved(x[{ i, c }]:totable(), 5, 7, m))
        assert.is_true(largest(expected, y[{ i, c }]) < 1e-4)
      end
    end
  end)

  it("turns clockwise, and leaves alone what nothing is asked of", function()
    local x = moon.rand(2, 1, 4, 4)
    local turned = t.random_affine { degrees = { 90, 90 } }(x)
    for i = 1, 4 do
      for j = 1, 4 do
        assert.is_true(math.abs(turned[{ 1, 1, j, 5 - i }] - x[{ 1, 1, i, j }]) < 1e-5)
      end
    end
    assert.is_true(largest(t.random_affine()(x), x) < 1e-6)
  end)

  it("takes nearest pixels, and what lies beyond the edge, when asked to", function()
    local x = moon.rand(1, 1, 4, 4)
    local options = { degrees = { 180, 180 }, mode = "nearest" }
    assert.equal(0, largest(t.random_affine(options)(x), x:flip({ 3, 4 })))
    local far = { translate = { 1, 1 }, padding_mode = "border" }
    assert.is_true(t.random_affine(far)(moon.ones(3, 1, 4, 4)):min():item() > 0.999)
  end)

  it("explains what is wrong", function()
    for options, text in pairs {
      [{ degrees = -1 }] = "degrees must be a number from 0 or a list {low, high}",
      [{ shear = { 2, 1 } }] = "shear must be",
      [{ scale = { 0, 1 } }] = "scale must be above 0",
      [{ translate = { 2, 0 } }] = "translate must be a number from 0 to 1",
      [{ angle = 1 }] = "angle",
    } do
      local ok, message = pcall(t.random_affine, options)
      assert.is_false(ok)
      assert.is_truthy(message:find(text, 1, true), message)
    end
  end)
end)

-- -- colours

local function limited(value) return math.min(math.max(value, 0), 1) end

local function lightness(p) return 0.299 * p[1] + 0.587 * p[2] + 0.114 * p[3] end

-- Hue from 0 to 1, saturation and value, and back, by the six cases of the textbook.
local function to_hsv(p)
  local r, g, b = p[1], p[2], p[3]
  local high, low = math.max(r, g, b), math.min(r, g, b)
  local c, hue = high - low, 0
  if c > 0 then
    hue = high == r and (g - b) / c % 6 or high == g and (b - r) / c + 2 or (r - g) / c + 4
  end
  return hue / 6, high > 0 and c / high or 0, high
end

local function from_hsv(h, s, v)
  local sector, rest = math.floor(h * 6), h * 6 - math.floor(h * 6)
  local low, down, up = v * (1 - s), v * (1 - s * rest), v * (1 - s * (1 - rest))
  return ({ { v, up, low }, { down, v, low }, { low, v, up }, { low, down, v }, { up, low, v },
    { v, low, down } })[sector % 6 + 1]
end

local function each(picture, change)
  local result = {}
  for i, p in ipairs(picture) do
    result[i] = change(p)
    for c = 1, 3 do result[i][c] = limited(result[i][c]) end
  end
  return result
end

local function mixed(p, other, factor)
  local q = {}
  for c = 1, 3 do q[c] = p[c] * factor + other * (1 - factor) end
  return q
end

-- A picture as a list of pixels {r, g, b}, with its four draws.
local function jittered(picture, brightness, contrast, saturation, hue)
  local pixels = each(picture, function(p) return mixed(p, 0, brightness) end)
  local mean = 0
  for _, p in ipairs(pixels) do mean = mean + lightness(p) / #pixels end
  pixels = each(pixels, function(p) return mixed(p, mean, contrast) end)
  pixels = each(pixels, function(p) return mixed(p, lightness(p), saturation) end)
  return each(pixels, function(p)
    local h, s, v = to_hsv(p)
    return from_hsv((h + hue) % 1, s, v)
  end)
end

describe("transforms.color_jitter", function()
  it("changes brightness, contrast, saturation and hue of each picture by its own draws", function()
    local x = moon.rand(5, 3, 3, 4)
    local transform = t.color_jitter {
      brightness = 0.6, contrast = { 0.3, 1.8 }, saturation = 2, hue = 0.4,
    }
    moon.manual_seed(8)
    local y = transform(x)
    moon.manual_seed(8)
    local d = draws(5, { { 0.4, 1.6 }, { 0.3, 1.8 }, { 0, 3 }, { -0.4, 0.4 } })
    for i = 1, 5 do
      local picture = x[i]:view(3, 12):t():totable()
      local expected = moon.tensor(jittered(picture, d[1][i], d[2][i], d[3][i], d[4][i]))
      assert.is_true(largest(expected, y[i]:view(3, 12):t()) < 1e-4)
    end
  end)

  it("leaves grey grey, and takes pictures of one channel", function()
    local x = moon.rand(2, 1, 3, 3)
    local three = x:expand(2, 3, 3, 3)
    assert.is_true(largest(t.color_jitter { saturation = 1, hue = 0.5 }(three), three) < 1e-6)
    assert.equal(0, largest(t.color_jitter { saturation = 1, hue = 0.5 }(x), x))
    assert.is_true(largest(t.color_jitter { brightness = { 0.5, 0.5 } }(x), x * 0.5) < 1e-6)
    assert.equal(0, largest(t.color_jitter {}(x), x))
  end)

  it("explains what is wrong", function()
    local ok, message = pcall(t.color_jitter { hue = 0.1 }, moon.rand(2, 4, 4))
    assert.is_false(ok)
    assert.matches("1 or 3 channels, not 2", message)
    for options, text in pairs {
      [{ hue = 0.6 }] = "hue must lie between -0.5 and 0.5",
      [{ contrast = "much" }] = "contrast must be a number from 0",
      [{ gamma = 1 }] = "gamma",
    } do
      ok, message = pcall(t.color_jitter, options)
      assert.is_false(ok)
      assert.is_truthy(message:find(text, 1, true), message)
    end
  end)

  it("goes to worker threads as the others do", function()
    local pictures = moon.rand(6, 3, 4, 4)
    local set = moon.data.TensorDataset(pictures, moon.ones(6))
    local both = t.compose {
      t.color_jitter { brightness = 0.5 }, t.random_affine { degrees = 30 },
      t.random_vertical_flip(),
    }
    local seen = {}
    for workers = 0, 1 do
      local loader = moon.data.Loader(set,
        { batch = 3, seed = 4, workers = workers, transform = both })
      seen[workers] = {}
      for x in loader:iter() do seen[workers][#seen[workers] + 1] = x:clone() end
      loader:close()
    end
    for i = 1, 2 do assert.equal(0, largest(seen[0][i], seen[1][i])) end
  end)
end)
