-- Transforms of batches on a CUDA device: what the CPU makes of them with the same seed.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local t = moon.data.transforms

local function largest(a, b) return (a - b):abs():max():item() end

-- Both results, and the next number that each device would draw.
local function on_both(transform, x)
  moon.manual_seed(11)
  local expected, drawn = transform(x), moon.rand(1):item()
  moon.manual_seed(11)
  local found = transform(x:to(gpu.device))
  assert.equal(drawn, moon.rand(1):item())
  assert.equal(gpu.device, found.device)
  assert.equal(x.dtype, found.dtype)
  return expected, found:cpu()
end

local transforms = {
  pad = t.pad(2, 0.5),
  normalize = t.normalize({ 0.1, 0.2, 0.3 }, { 0.5, 0.6, 0.7 }),
  random_crop = t.random_crop(5),
  ["random_crop with a border"] = t.random_crop(7, 3),
  random_horizontal_flip = t.random_horizontal_flip(),
  random_vertical_flip = t.random_vertical_flip(0.3),
  random_affine = t.random_affine { degrees = 40, translate = { 0.2, 0.1 }, scale = { 0.8, 1.2 },
    shear = 10 },
  color_jitter = t.color_jitter { brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.2 },
}

describe("on a device", function()
  for name, transform in pairs(transforms) do
    it(name .. " gives what it gives on the CPU", function()
      local x = moon.rand(6, 3, 7, 9)
      local expected, found = on_both(transform, x)
      assert.is_true(largest(expected, found) < 1e-5)
    end)
  end

  it("a crop moves pixels as they are, in every type", function()
    for _, dtype in ipairs { "float64", "bfloat16", "float16", "uint8" } do
      local x = (moon.rand(5, 2, 11, 8) * 255):to(dtype)
      local expected, found = on_both(t.random_crop(6, 2), x)
      assert.is_true(expected:equal(found), dtype)
    end
    assert.is_true(moon.equal(on_both(t.random_crop(200, 16), moon.rand(2, 1, 300, 257))))
  end)

  it("several are composed, from bytes to what a network gets, one picture too", function()
    local whole = t.compose { t.to_float(), t.random_crop(6, 1), t.random_horizontal_flip(),
      t.color_jitter { brightness = 0.3 }, t.normalize(0.5, 0.25) }
    local bytes = moon.randint(0, 255, { 4, 3, 6, 6 }, { dtype = "uint8" })
    local function agree(x)
      moon.manual_seed(2)
      local expected = whole(x)
      moon.manual_seed(2)
      local found = whole(x:to(gpu.device))
      assert.same(expected:size(), found:size())
      assert.is_true(largest(expected, found:cpu()) < 1e-5)
    end
    agree(bytes)
    agree(bytes[1])
  end)

  it("a graph draws anew in each run", function()
    local x = moon.rand(3, 3, 6, 6)
    local both = t.compose { t.random_crop(6, 2), t.color_jitter { hue = 0.3 },
      t.random_affine { degrees = 20 } }
    local function results(fn)
      moon.manual_seed(6)
      local list = {}
      for i = 1, 4 do list[i] = fn():cpu() end
      return list
    end
    local y = x:to(gpu.device)
    local eager = results(function() return both(y) end)
    local graph = results(moon.cuda.graph(function() return both(y) end))
    for i = 1, 4 do assert.is_true(largest(eager[i], graph[i]) < 1e-6) end
    assert.is_true(largest(graph[3], graph[4]) > 1e-3)
  end)
end)
