-- grid_sample on a CUDA device against the CPU, with gradients: all modes and paddings in every
-- layout; more positions and channels than an item has; pixels that very many positions share, and
-- images a few at a time; in a graph.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local grids = require "spec.support.grids"
local pixels = require "spec.support.pixels"
local twins = require "spec.support.twins"

local unpack = table.unpack or unpack

describe("grid_sample on " .. gpu.device, function()
  before_each(function() moon.manual_seed(5) end)

  local function sampled(layout, options)
    return function(x, grid) return moon.grid_sample(layout(x), grid, options) end
  end

  it("in all modes and paddings, of images and volumes", function()
    grids.each(function(options, dims)
      for name, layout in pairs(pixels.layouts) do
        local dtype = name == "planes" and "float64" or "float32"
        local function call(x, grid)
          x = layout(x)
          return moon.grid_sample(dims == 2 and x or grids.volume(x, 3), grid, options)
        end
        twins.agree_backward(dtype == "float64" and 1e-13 or 1e-5, call,
          moon.randn(2, 6, 5, 3):to(dtype), grids.random(2, dims == 2 and { 4, 7 } or { 2, 3, 4 },
                                                         dtype))
      end
    end)
  end)

  it("of many positions and channels, in halves too", function()
    for dtype, tolerance in pairs { float32 = 1e-5, float16 = 4e-3, bfloat16 = 3e-2 } do
      for name, layout in pairs(pixels.layouts) do
        local c = name == "planes" and 5 or 70
        twins.agree_backward(tolerance, sampled(layout, { padding_mode = "border" }),
          moon.randn(2, 9, 8, c):to(dtype), grids.random(2, { 13, 11 }, dtype))
      end
    end
  end)

  it("where all positions share pixels", function()
    local crowd = moon.randn(2, 30, 30, 2) * 1e-3
    for _, layout in pairs(pixels.layouts) do
      twins.agree_backward(2e-5, sampled(layout, {}), moon.randn(2, 4, 4, 6), crowd)
      twins.agree_backward(2e-5, sampled(layout, { padding_mode = "border" }),
        moon.randn(2, 4, 4, 6), crowd + 5)
    end
  end)

  it("of images a few at a time", function()
    local limit = moon.workspace_limit()
    finally(function() moon.workspace_limit(limit) end)
    for _, bytes in ipairs { 1, 40000 } do
      moon.workspace_limit(bytes)
      twins.agree_backward(1e-5, sampled(pixels.layouts.pixels, {}), moon.randn(5, 6, 6, 4),
        grids.random(5, { 9, 9 }, "float32"))
    end
  end)

  it("of nothing", function()
    for _, shape in ipairs { { 2, 3, 4, 0 }, { 0, 3, 4, 2 } } do
      twins.agree_backward(nil, sampled(pixels.layouts.pixels, {}), moon.zeros(shape),
        moon.zeros(shape[1], 2, 2, 2))
    end
    twins.agree_backward(nil, sampled(pixels.layouts.pixels, {}), moon.ones(2, 3, 4, 5),
      moon.zeros(2, 0, 3, 2))
  end)

  it("in a graph", function()
    local x = moon.randn(2, 3, 5, 6, { device = gpu.device }):requires_grad_()
    local grid = grids.random(2, { 4, 4 }, "float32"):to(gpu.device):requires_grad_()
    local function step()
      local y = moon.grid_sample(x, grid, { padding_mode = "reflection" })
      local dx, dgrid = unpack(moon.grad({ y:square():sum() }, { x, grid }))
      return y:detach(), dx, dgrid
    end
    local recorded, expected = moon.cuda.graph(step), { step() }
    for _ = 1, 4 do
      local got = { recorded() }
      for i = 1, 3 do twins.same(got[i]:cpu(), expected[i]:cpu()) end
    end
  end)
end)
