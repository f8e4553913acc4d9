-- What resizing and sampling refuse, values far out or not finite, and failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local huge, nan = math.huge, 0 / 0

local fails = naive.refuses

describe("interpolate", function()
  local x = moon.randn(1, 2, 3, 4)

  -- One dimension after the other, each as a sequence.
  local function in_two_steps(image, rows, columns)
    local n, c, h, w = image:size(1), image:size(2), image:size(3), image:size(4)
    local wide = image:reshape(n, c * h, w):interpolate({ columns }, { mode = "linear" })
    local turned = wide:reshape(n, c, h, columns):transpose(3, 4):reshape(n, c * columns, h)
    return turned:interpolate({ rows }, { mode = "linear" }):reshape(n, c, columns, rows)
      :transpose(3, 4)
  end

  it("gives what one dimension after the other does, near and far apart", function()
    for _, to in ipairs { { 5, 7 }, { 14, 370 }, { 3, 33 }, { 2, 1 }, { 1, 700 } } do
      for _, dtype in ipairs { "float32", "float64" } do
        local image = naive.random({ 2, 3, 7, 185 }, { seed = 3 }):to(dtype):requires_grad_(true)
        local other = image:detach():requires_grad_(true)
        local y = image:interpolate(to, { mode = "bilinear" })
        local expected = in_two_steps(other, to[1], to[2])
        local g = naive.random({ 2, 3, to[1], to[2] }, { seed = 4 }):to(dtype)
        y:backward(g)
        expected:backward(g)
        naive.close(y, expected, dtype == "float32" and 2e-6 or 1e-13)
        naive.close(image.grad, other.grad, dtype == "float32" and 1e-5 or 1e-12)
      end
    end
  end)

  it("keeps an infinity where it has no weight out of a result", function()
    local image = moon.tensor { { { { 1, huge, 3, 4 }, { 1, 2, 3, 4 } } } }
    naive.close(image:interpolate({ 2, 2 }, { mode = "nearest" }),
      moon.tensor { { { { 1, 3 }, { 1, 3 } } } }, 0)
  end)

  it("says what does not fit", function()
    fails("interpolate", "give either size or scale_factor, got neither", x)
    fails("interpolate", "give either size or scale_factor, got both", x,
      { size = 2, scale_factor = 2 })
    fails("interpolate", "input must have 3, 4 or 5 dimensions (n, c, ...), got 3x4", x[{ 1, 1 }],
      { size = 2 })
    fails("interpolate", 'mode "linear" takes an input (n, c, l), got 1x2x3x4', x,
      { size = 2, mode = "linear" })
    fails("interpolate", 'mode "trilinear" takes an input (n, c, d, h, w), got 1x2x3x4', x,
      { size = 2, mode = "trilinear" })
    fails("interpolate", 'align_corners has no meaning for mode "nearest"; it goes with linear, ' ..
      "bilinear, trilinear and bicubic", x, { size = 2, align_corners = true })
    fails("interpolate", 'antialias goes with bilinear and bicubic, not with mode "area"', x,
      { size = 2, mode = "area", antialias = true })
    fails("interpolate", "antialias does not go with align_corners", x,
      { size = 2, mode = "bilinear", antialias = true, align_corners = true })
    fails("interpolate", "size must be one number or 2, got 3", x, { size = { 2, 2, 2 } })
    fails("interpolate", "size must be at least 1, got 0", x, { size = { 2, 0 } })
    fails("interpolate", "size must be at most 2147483647, got 4294967296", x,
      { size = 2 ^ 32 })
    fails("interpolate", "scale_factor must be a number above 0, got -1", x, { scale_factor = -1 })
    fails("interpolate", "scale_factor must be a number above 0, got inf", x,
      { scale_factor = huge })
    fails("interpolate", "scale_factor 0.1 makes 3 elements 0; there must be 1 to 2147483647", x,
      { scale_factor = 0.1 })
    fails("interpolate", "input must have elements to resize, got 1x2x0x4",
      moon.zeros(1, 2, 0, 4), { size = 2 })
    fails("interpolate", 'input must be of a float type, got int64', x:long(), { size = 2 })
    fails("interpolate", 'mode must be one of "nearest"', x, { size = 2, mode = "cubic" })
  end)

  it("keeps an infinity or NaN where it is", function()
    local line = moon.tensor { { { 1, huge, 3, nan, 5, 6, 7 } } }
    naive.close(moon.interpolate(line, { size = 14 }):narrow(3, 9, 6),
      { { { 5, 5, 6, 6, 7, 7 } } })
    local smooth = moon.interpolate(line, { size = 14, mode = "linear" })
    naive.close(smooth:narrow(3, 10, 5), { { { 5.25, 5.75, 6.25, 6.75, 7 } } })
    naive.close(moon.adaptive_avg_pool1d(line, 3):select(3, 3), { { 6 } })
  end)

  it("keeps the same size as it is", function()
    for _, mode in ipairs { "nearest", "nearest-exact", "bilinear", "bicubic", "area" } do
      naive.close(moon.interpolate(x, { scale_factor = 1, mode = mode }), x, 1e-6)
    end
  end)

  it("survives the failure of any allocation", function()
    local leaf = x:clone():requires_grad_()
    for _, mode in ipairs { "nearest", "bicubic", "area" } do
      faults.every_allocation(function()
        moon.interpolate(leaf, { size = { 5, 3 }, mode = mode }):sum():backward()
        leaf.grad = nil
      end)
    end
  end)
end)

describe("grid_sample", function()
  local x, grid = moon.randn(1, 2, 3, 4), moon.rand(1, 5, 6, 2):mul(2):sub(1)

  it("says what does not fit", function()
    fails("grid_sample", "grid must be (n, h, w, 2) with input's batch, got input 1x2x3x4 and " ..
      "grid 1x5x6x3", x, moon.zeros(1, 5, 6, 3))
    fails("grid_sample", "grid must be (n, h, w, 2) with input's batch, got input 1x2x3x4 and " ..
      "grid 2x5x6x2", x, moon.zeros(2, 5, 6, 2))
    fails("grid_sample", "grid must be (n, d, h, w, 3) with input's batch, got input 1x2x3x4x1 " ..
      "and grid 1x5x6x2", x:unsqueeze(5), grid)
    fails("grid_sample", 'mode "bicubic" takes an input (n, c, h, w), got 1x2x3x4x1',
      x:unsqueeze(5), moon.zeros(1, 1, 1, 1, 3), { mode = "bicubic" })
    fails("grid_sample", "input is float32 but grid is float64", x, grid:double())
    fails("grid_sample", "input must have elements to sample, got 1x2x0x4", moon.zeros(1, 2, 0, 4),
      grid)
    fails("grid_sample", 'padding_mode must be one of "zeros", "border", "reflection"', x, grid,
      { padding_mode = "wrap" })
  end)

  local far = { { nan, 0 }, { huge, -huge }, { 1e30, -1e30 }, { 1e10, 0 }, { -5, 0 } }

  it("takes positions that lie anywhere", function()
    local places = moon.tensor { { far } }:requires_grad_()
    for _, padding in ipairs { "zeros", "border", "reflection" } do
      for _, mode in ipairs { "bilinear", "nearest", "bicubic" } do
        local leaf = x:clone():requires_grad_()
        local y = moon.grid_sample(leaf, places, { mode = mode, padding_mode = padding })
        assert.is_true(y:isfinite():all():item())
        if padding == "zeros" then
          naive.close(y:narrow(4, 2, 4), moon.zeros(1, 2, 1, 4))
        end
        y:sum():backward()
        assert.is_true(leaf.grad:isfinite():all():item())
      end
    end
  end)

  it("is not spoilt by what a position does not see", function()
    local image = moon.tensor { { { { huge, 1 }, { nan, 2 } } } }
    local at = moon.tensor { { { { 1, 0 }, { 3, 3 } } } }
    naive.close(moon.grid_sample(image, at), { { { { 0.75, 0 } } } })
  end)

  it("with the grid of the identity gives the image", function()
    local theta = moon.eye(2, 3):unsqueeze(1)
    for _, align in ipairs { true, false } do
      local identity = moon.affine_grid(theta, x:size(), { align_corners = align })
      naive.close(moon.grid_sample(x, identity, { align_corners = align }), x, 1e-5)
    end
  end)

  it("survives the failure of any allocation", function()
    local leaf, places = x:clone():requires_grad_(), grid:narrow(2, 1, 2):clone():requires_grad_()
    faults.every_allocation(function()
      moon.grid_sample(leaf, places, { padding_mode = "reflection" }):sum():backward()
      leaf.grad, places.grad = nil, nil
    end)
  end)
end)

describe("affine_grid", function()
  it("says what does not fit", function()
    fails("affine_grid", "size must be {n, c, h, w} or {n, c, d, h, w}, got 3 numbers",
      moon.zeros(1, 2, 3), { 1, 2, 3 })
    fails("affine_grid", "theta must be 1x2x3 for this size, got 2x3", moon.zeros(2, 3),
      { 1, 1, 4, 4 })
    fails("affine_grid", "theta must be 2x3x4 for this size, got 2x2x3", moon.zeros(2, 2, 3),
      { 2, 1, 4, 4, 4 })
    fails("affine_grid", "size must be at least 1, got 0", moon.zeros(1, 2, 3), { 1, 1, 0, 4 })
    fails("affine_grid", "theta must be of a float type, got int64", moon.zeros(1, 2, 3):long(),
      { 1, 1, 4, 4 })
  end)

  it("survives the failure of any allocation", function()
    local theta = moon.randn(2, 2, 3, { requires_grad = true })
    faults.every_allocation(function()
      moon.affine_grid(theta, { 2, 1, 3, 4 }):sum():backward()
      theta.grad = nil
    end)
  end)
end)

describe("pixel shuffling", function()
  it("says what does not fit", function()
    fails("pixel_shuffle", "the 6 channels must divide by factor squared, 4 (input 6x2x2)",
      moon.zeros(6, 2, 2), 2)
    fails("pixel_unshuffle", "height and width must divide by factor 2, got 1x3x4",
      moon.zeros(1, 3, 4), 2)
    for _, name in ipairs { "pixel_shuffle", "pixel_unshuffle" } do
      fails(name, "input must have 3 to 6 dimensions (..., c, h, w), got 2x2", moon.zeros(2, 2), 1)
      fails(name, "factor must be 1 to 2147483647, got 0", moon.zeros(1, 2, 2), 0)
    end
  end)

  it("takes integers, and each undoes the other", function()
    local x = moon.arange(1, 48):reshape(2, 4, 3, 2)
    local y = moon.pixel_shuffle(x, 2)
    assert.equal("int64", y.dtype)
    naive.close(moon.pixel_unshuffle(y, 2), x)
  end)

  it("survives the failure of any allocation", function()
    local x = moon.randn(1, 4, 2, 2)
    faults.every_allocation(function() moon.pixel_unshuffle(moon.pixel_shuffle(x, 2), 2) end)
  end)
end)
