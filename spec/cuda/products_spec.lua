-- Matrix products, convolutions and transforms on CUDA beyond the operators' cases: sizes that take
-- several tiles, a depth that is cut, layouts, and values that must not spread.
local moon = require "moonlet"
local fused_layers = require "spec.support.fused_layers"
local gpu = require "spec.support.gpu"

local unpack = table.unpack or unpack   -- luacheck: ignore
local double = { dtype = "float64" }

-- Largest difference, of values of order 1.
local function distance(x, y) return (x:cpu() - y:cpu()):abs():max():item() end

local function same(x, y, allowed)
  assert.are.same(y:size(), x:size())
  assert.is_true(distance(x, y) <= (allowed or 1e-10))
end

-- fn of the tensors on the device against fn of the tensors.
local function agrees(fn, ...)
  local there = {}
  for i = 1, select("#", ...) do there[i] = (select(i, ...)):to(gpu.device) end
  same(fn(unpack(there)), fn(...))
end

local function mm(a, b) return a:mm(b) end

describe("products on " .. gpu.device, function()
  it("take several tiles, with edges on all sides", function()
    agrees(mm, moon.randn(130, 37, double), moon.randn(37, 67, double))
  end)

  it("cut a long depth, for tiles and for single vectors", function()
    agrees(mm, moon.randn(9, 3001, double), moon.randn(3001, 11, double))
    agrees(mm, moon.randn(1, 3001, double), moon.randn(3001, 70, double))
    agrees(mm, moon.randn(70, 1500, double), moon.randn(1500, 1, double))
  end)

  it("take more tiles than a grid has blocks", function()
    agrees(moon.bmm, moon.randn(4200, 5, 2, double), moon.randn(4200, 2, 5, double))
  end)

  it("take operands that lie the other way, backwards, or repeat", function()
    local a, b = moon.randn(70, 40, double), moon.randn(70, 30, double)
    agrees(function(x, y) return x:t():mm(y) end, a, b)
    agrees(function(x, y) return x:t():mm(y:flip(1)) end, a, b)
    agrees(function(x, y) return x[{ { 1, 1 } }]:expand(6, 40):mm(y:t()[{ {}, { 1, 40 } }]:t()) end,
      a, b)
  end)

  it("of no depth are zeros, and of no rows nothing", function()
    local none = moon.zeros(3, 0):to(gpu.device)
    same(none:mm(moon.zeros(0, 4):to(gpu.device)), moon.zeros(3, 4), 0)
    assert.are.same({ 0, 4 }, moon.zeros(0, 3):to(gpu.device):mm(moon.zeros(3, 4)
      :to(gpu.device)):size())
  end)

  it("keep NaN in its row and column, also beside an edge", function()
    local a, b = moon.ones(66, 20), moon.ones(20, 66)
    a[{ 65, 3 }] = 0 / 0
    local c = a:to(gpu.device):mm(b:to(gpu.device)):cpu()
    assert.are.equal(66, c:isnan():sum():item())
    assert.are.equal(20, c[{ 64, 66 }])
  end)

  it("keep NaN through ReLU on their way out", function()
    local x, w, b = moon.ones(8, 16), moon.ones(24, 16), moon.zeros(24)
    x[{ 3, 5 }] = 0 / 0
    for _, dtype in ipairs { "float32", "bfloat16" } do
      local function there(tensor) return tensor:to(dtype):to(gpu.device) end
      for _, bias in ipairs { there(b), false } do
        local y = moon.linear_fused(there(x), there(w), bias or nil, { activation = "relu" })
        assert.are.equal(24, y:isnan():sum():item())
      end
    end
  end)

  it("of bfloat16 and float32 meet", function()
    local a, b = moon.randn(40, 20):to "bfloat16", moon.randn(20, 50)
    local x, y = a:to(gpu.device), b:to(gpu.device)
    local linear = moon.linear(x, y:t():contiguous())
    same(linear:to "float32", moon.linear(a, b:t():contiguous()):to "float32", 0.1)
  end)

  it("add a bias and clamp on their way out", function() fused_layers(gpu.device) end)
end)

-- -- convolutions

local function last(x) return x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3) end
local function as_it_is(x) return x end

-- Result and gradients, as one row.
local function convolved(x, w, options)
  x, w = x:detach():requires_grad_(), w:detach():requires_grad_()
  local y = moon.conv2d(x, w, nil, options)
  y:backward(y:detach())
  return moon.cat { y:detach():reshape(-1), x.grad:reshape(-1), w.grad:reshape(-1) }
end

describe("convolutions on " .. gpu.device, function()
  local shapes = {
    { "several tiles", { 2, 70, 9, 7 }, { 66, 70, 3, 3 }, { padding = 1 } },
    { "a row of pixels without a border", { 3, 8, 20, 20 }, { 9, 8, 1, 1 }, {} },
    { "strides that leave pixels out", { 2, 6, 12, 11 }, { 8, 6, 2, 3 }, { stride = { 3, 2 } } },
    { "strides and dilation with a common factor", { 1, 5, 15, 17 }, { 6, 5, 3, 2 },
      { stride = { 4, 2 }, dilation = { 2, 4 }, padding = { 3, 1 } } },
    { "groups", { 2, 12, 8, 8 }, { 18, 4, 3, 3 }, { groups = 3, padding = 1 } },
    { "a group a channel", { 3, 40, 14, 14 }, { 40, 1, 3, 3 }, { groups = 40, padding = 1 } },
    { "padding on one side", { 2, 4, 6, 6 }, { 5, 4, 2, 2 }, { padding = { { 0, 1 }, { 2, 0 } } } },
  }
  for _, row in ipairs(shapes) do
    local name, xs, ws, options = unpack(row)
    for layout, change in pairs { ["row-major"] = as_it_is, ["channels last"] = last } do
      it("of " .. name .. ", " .. layout .. ", agree with the CPU's", function()
        local x, w = change(moon.randn(xs, double)), moon.randn(ws, double)
        local there = convolved(change(x:to(gpu.device)), w:to(gpu.device), options)
        same(there, convolved(x, w, options), 1e-8)
      end)
    end
  end

  it("take strides that are far larger than the image", function()
    local x, w = moon.randn(1, 2, 1, 1, double), moon.randn(2, 3, 4, 5, double)
    agrees(function(a, b) return moon.conv_transpose2d(a, b, nil, { stride = 2 ^ 30 }) end, x, w)
  end)

  it("name their engines, beside the CPU's", function()
    local ok, message = pcall(moon.conv_engine, "none of that name")
    assert.is_false(ok)
    for _, name in ipairs { '"cudnn"', '"implicit"', '"depthwise"' } do
      assert.truthy(message:find(name, 1, true))
    end
    assert.is_nil(message:match('"implicit".*"implicit"'))
  end)

  it("list their costs", function()
    local list = moon.with_device(gpu.device, moon.conv_engines, { 2, 8, 9, 9 }, { 4, 8, 3, 3 })
    assert.are.equal("implicit", list[#list].name)
    assert.is_true(list[#list].cost >= 2 * 7 * 7 * 4 * 8 * 9)
  end)
end)

-- -- transforms

describe("transforms on " .. gpu.device, function()
  for _, n in ipairs { 1, 2, 31, 64, 97, 360, 1001, 2048 } do
    it(("of %d elements agree with the CPU's, there and back"):format(n), function()
      local x = moon.randn(3, n, double)
      agrees(moon.rfft, x)
      agrees(function(z) return moon.irfft(moon.rfft(z), { n = n }) end, x)
      agrees(moon.fft, moon.complex(x, x:flip(1)))
    end)
  end

  it("go along any dimension", function()
    agrees(function(z) return moon.rfft(z, { dim = 1 }) end, moon.randn(30, 41, double))
  end)
end)
