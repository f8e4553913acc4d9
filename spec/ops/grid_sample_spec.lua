-- grid_sample's kernels against its formula, which gradients of gradients run: in every mode and
-- padding, in several layouts and every float type, at positions near and far, of images that hold
-- infinities; and the same bits for any number of threads.
local moon = require "moonlet"
local grids = require "spec.support.grids"
local naive = require "spec.support.naive"
local pixels = require "spec.support.pixels"

local unpack = table.unpack or unpack

-- Values, and the gradients of image and grid, by the kernels.
local function by_kernels(x, grid, g, options)
  local image, at = x:detach():requires_grad_(), grid:detach():requires_grad_()
  local y = moon.grid_sample(image, at, options)
  return { y:detach(), unpack(moon.grad({ y }, { image, at }, { grad_outputs = { g } })) }
end

-- The same by the formula. The image's gradient is linear in g, and so the gradient by g of its
-- product with x is the sample of x.
local function by_formula(x, grid, g, options)
  local image, at = x:detach():requires_grad_(), grid:detach():requires_grad_()
  local pulled = g:detach():requires_grad_()
  local y = moon.grid_sample(image, at, options)
  local dx, dgrid = unpack(moon.grad({ y }, { image, at }, { grad_outputs = { pulled },
    create_graph = true }))
  return { moon.grad((dx * x):sum(), pulled), dx:detach(), dgrid:detach() }
end

-- How far apart they are, where they are numbers; relative above 1.
local function off_by(got, expected)
  got, expected = got:double(), expected:double()
  assert.same(expected:size(), got:size())
  assert.is_true(got:isnan():eq(expected:isnan()):all():item())
  if got:numel() == 0 then return 0 end
  local distance = ((got - expected) / (expected:abs() + 1)):abs()
  return moon.where(got:eq(expected):logical_or(got:isnan()), moon.tensor(0, { dtype = "float64" }),
    distance):max():item()
end

local function agree(most, x, grid, g, options)
  local got, expected = by_kernels(x, grid, g, options), by_formula(x, grid, g, options)
  for i, name in ipairs { "values", "the image's gradient", "the grid's gradient" } do
    local distance = off_by(got[i], expected[i])
    assert.is_true(distance <= most, ("%s are off by %g: %s, %s, %s, align_corners %s"):format(name,
      distance, x.dtype, options.mode, options.padding_mode, tostring(options.align_corners)))
  end
end

local sides = { { 7, 11 }, { 3, 5, 6 } }     -- of the result

-- A volume whose channels lie as the layout has those of an image.
local function laid_out(layout, dims, c, dtype)
  if dims == 2 then return layout(moon.randn(2, 9, 6, c):to(dtype)) end
  return grids.volume(layout(moon.randn(2, 12, 5, c):to(dtype)), 3)
end

describe("grid_sample", function()
  before_each(function() moon.manual_seed(3) end)

  local most = { float32 = 5e-5, float64 = 1e-13, float16 = 4e-3, bfloat16 = 3e-2 }

  for name, layout in pairs(pixels.layouts) do
    it("agrees with its formula, laid out as " .. name, function()
      grids.each(function(options, dims)
        for _, c in ipairs { 1, 3, 19 } do
          for dtype, limit in pairs(c == 3 and most or { float32 = most.float32 }) do
            local x = laid_out(layout, dims, c, dtype)
            local grid = grids.random(2, sides[dims - 1], dtype)
            local g = moon.randn_like(moon.grid_sample(x, grid, options))
            agree(limit, x, grid, g, options)
          end
        end
      end)
    end)
  end

  it("agrees with its formula on images that hold infinities and NaN", function()
    grids.each(function(options, dims)
      local x = laid_out(pixels.layouts.pixels, dims, 19, "float32")
      x = moon.where(moon.rand(x:size()):lt(0.05), moon.tensor(math.huge), x)
      x = moon.where(moon.rand(x:size()):lt(0.05), moon.tensor(0 / 0), x)
      local grid = grids.random(2, sides[dims - 1], "float32")
      local y = moon.grid_sample(x, grid, options)
      local expected = by_formula(x, grid, moon.randn_like(y), options)[1]
      assert.is_true(y:isnan():any():item() and y:isfinite():any():item())
      assert.is_true(off_by(y, expected) <= 1e-6)
      assert.is_true(off_by(moon.grid_sample(x:contiguous(), grid, options), expected) <= 1e-6)
      if options.mode == "nearest" then
        local pulls = by_kernels(x, grid, moon.randn_like(y), options)[3]
        assert.is_true(off_by(pulls, moon.zeros_like(grid)) == 0)
      end
    end)
  end)

  it("gives the same bits on any number of threads, of many images and of one", function()
    local before = moon.get_num_threads()
    finally(function() moon.set_num_threads(before) end)
    for _, shape in ipairs { { 5, 8, 9, 70 }, { 1, 40, 41, 3 }, { 1, 6, 5, 64 }, { 3, 9, 9, 1 } } do
      for _, layout in pairs(pixels.layouts) do
        local x, grid = layout(moon.randn(shape)), grids.random(shape[1], { 43, 37 }, "float32")
        local g, results = moon.randn_like(moon.grid_sample(x, grid)), {}
        for threads = 1, 3 do
          moon.set_num_threads(threads)
          results[threads] = by_kernels(x, grid, g, { padding_mode = "border" })
        end
        for threads = 2, 3 do
          for i = 1, 3 do
            assert.is_true(results[1][i]:eq(results[threads][i]):all():item())
          end
        end
      end
    end
  end)

  it("has no slope in x at the first and last pixels, but where zeros lie beyond", function()
    local x = moon.tensor { { { { 10, 20, 40 } } } }
    local expected = { zeros = { 10, -40 }, border = { 0, 0 }, reflection = { 0, 0 } }
    for padding, slopes in pairs(expected) do
      local at = moon.tensor { { { { -1, 0 }, { 1, 0 } } } }
      local options = { padding_mode = padding, align_corners = true }
      local g = moon.ones(1, 1, 1, 2)
      for _, results in ipairs { by_kernels(x, at, g, options), by_formula(x, at, g, options) } do
        naive.close(results[3]:narrow(4, 1, 1), { { { { slopes[1] }, { slopes[2] } } } })
      end
    end
  end)

  it("takes the last pixel where float32 rounds its number up to beside the image", function()
    local wide = moon.tensor { { { { 3 } } }, { { { 5 } } } }:expand(2, 1, 1, 2 ^ 24 + 4)
    local at, options = moon.ones(2, 1, 1, 2), { mode = "nearest", padding_mode = "border" }
    local g = moon.ones(2, 1, 1, 1)
    naive.close(moon.grid_sample(wide, at, options), { { { { 3 } } }, { { { 5 } } } })
    naive.close(by_formula(wide, at, g, options)[1], { { { { 3 } } }, { { { 5 } } } })
  end)

  it("gives gradients with a graph to leaves that require none any more", function()
    local x, at = moon.randn(1, 2, 3, 3):requires_grad_(), moon.rand(1, 2, 2, 2):requires_grad_()
    local y = moon.grid_sample(x, at):sum()
    local expected = moon.grad(y, x, { retain_graph = true })
    x:requires_grad_(false)
    y:backward { create_graph = true }
    naive.close(x.grad, expected)
    assert.is_true(at.grad.requires_grad)
  end)

  it("takes infinities across a single pixel for its centre", function()
    local at = moon.tensor { { { { math.huge, 0 }, { -math.huge, 0 }, { 5, 0 } } } }
    for _, mode in ipairs { "bilinear", "bicubic", "nearest" } do
      local y = moon.grid_sample(moon.tensor { { { { 3 }, { 5 } } } }, at,
        { mode = mode, align_corners = true, padding_mode = "border" })
      naive.close(y:narrow(4, 2, 2) - y:narrow(4, 1, 1), { { { { 0, 0 } } } })
    end
  end)

  it("gives gradients of images without channels, positions or pictures", function()
    for _, sizes in ipairs { { 2, 0, 3, 4 }, { 0, 2, 3, 4 } } do
      local x = moon.zeros(sizes):requires_grad_()
      local grid = moon.zeros(sizes[1], 5, 6, 2):requires_grad_()
      moon.grid_sample(x, grid):sum():backward()
      naive.close(x.grad, moon.zeros(sizes))
      naive.close(grid.grad, moon.zeros(sizes[1], 5, 6, 2))
    end
    local x, grid = moon.ones(2, 3, 4, 4):requires_grad_(), moon.zeros(2, 0, 6, 2):requires_grad_()
    moon.grid_sample(x, grid):sum():backward()
    naive.close(x.grad, moon.zeros(2, 3, 4, 4))
    assert.same({ 2, 0, 6, 2 }, grid.grad:size())
  end)
end)
