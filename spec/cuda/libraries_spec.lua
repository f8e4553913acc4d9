-- CUDA's libraries behind the kernels' slots: that they are asked, and for what. Without a GPU they
-- are stand-ins that end the process at a wrong argument (spec/emulated/stand_in.h).
local libraries = require "spec.support.gpu_libraries"
local moon = require "moonlet"
local fused_layers = require "spec.support.fused_layers"

if libraries.absent then return end

local device, chosen = libraries.device, libraries.chosen

local function far_from(x, y) return (x:cpu() - y:cpu()):to("float64"):abs():max():item() end

-- Result and gradients of a convolution of x and w, as a list.
local function convolved(x, w, options)
  x, w = x:detach():requires_grad_(), w:detach():requires_grad_()
  local y = moon.conv2d(x, w, nil, options)
  y:backward(y:detach())
  return { y:detach(), x.grad, w.grad }
end

local function convolve_alike(x, w, options, allowed)
  local there = convolved(x:to(device), w:to(device), options)
  for i, here in ipairs(convolved(x, w, options)) do
    assert.is_true(far_from(there[i], here) <= (allowed or 1e-9))
  end
end

describe("cuDNN", function()
  for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16" } do
    it("convolves in all directions in " .. dtype, function()
      local x = moon.randn(2, 4, 9, 9):to(dtype):to(device)
      local w = moon.randn(6, 4, 3, 3):to(dtype):to(device)
      local by = chosen(function() convolved(x, w, { padding = 1 }) end)
      assert.are.same({ "cudnn", "cudnn", "cudnn" },
        { by.conv2d, by.conv2d_input_gradient, by.conv2d_weight_gradient })
    end)
  end

  it("takes weights of float32 beside half types, but not under precise", function()
    for _, dtype in ipairs { "float16", "bfloat16" } do
      local x = moon.randn(1, 2, 5, 5):to(dtype):to(device)
      local w = moon.randn(3, 2, 3, 3, { device = device })
      local function run() moon.conv2d(x, w) end
      assert.are.equal("cudnn", chosen(run).conv2d)
      moon.precise(true)
      local by = chosen(run).conv2d
      moon.precise(false)
      assert.are.equal("implicit", by)
    end
  end)

  it("takes arrays that begin anywhere", function()
    local x = moon.randn(1 + 2 * 3 * 6 * 6, { dtype = "float64" })[{ { 2, 217 } }]
    convolve_alike(x:view(2, 3, 6, 6), moon.randn(4, 3, 3, 3, { dtype = "float64" }), {})
    local last = x:view(2, 6, 6, 3):permute(1, 4, 2, 3):to "float32"
    local base = moon.zeros(1 + last:numel(), { device = device })
    local inside = base[{ { 2, -1 } }]:view(2, 6, 6, 3):permute(1, 4, 2, 3)
    moon.no_grad(inside.copy_, inside, last:to(device))
    local w = moon.randn(4, 3, 3, 3)
    local there = moon.conv2d(inside, w:to(device))
    assert.is_true(far_from(there, moon.conv2d(last, w)) < 1e-4)
  end)

  it("keeps to 23 bits of a factor unless TF32 is allowed", function()
    local x, w = moon.randn(1, 16, 8, 8), moon.randn(16, 16, 3, 3)
    local function off()
      return far_from(moon.conv2d(x:to(device), w:to(device)), moon.conv2d(x, w))
    end
    assert.is_true(off() < 1e-4)
    moon.cuda.tf32(true)
    local allowed = off()
    moon.precise(true)
    local forbidden = off()
    moon.precise(false)
    moon.cuda.tf32(false)
    assert.is_true(allowed > 1e-3 or not libraries.emulated)   -- a GPU's may do without
    assert.is_true(forbidden < 1e-4)
  end)

  it("works in graphs, beside the others", function()
    local x = moon.randn(2, 3, 8, 8, { device = device })
    local w = moon.randn(3, 3, 3, 3, { device = device })
    local function step()
      local y = moon.conv2d(x, w, nil, { padding = 1 })
      return y:reshape(6, 64):mm(y:reshape(6, 64):t()), moon.rfft(y)
    end
    local run = moon.cuda.graph(step)
    for _ = 1, 4 do
      moon.no_grad(x.copy_, x, moon.randn(2, 3, 8, 8, { device = device }))
      local product, spectrum = run()
      local expected, waves = step()
      assert.is_true(far_from(product, expected) < 1e-3)
      assert.is_true(far_from(spectrum, waves) < 1e-4)
    end
  end)
end)

describe("cuBLASLt and cuFFT", function()
  it("are asked", function()
    local a, b = moon.randn(5, 7, { device = device }), moon.randn(7, 3, { device = device })
    assert.are.equal("cublaslt", chosen(function() a:mm(b) end).mm)
    assert.are.equal("cufft", chosen(function() moon.rfft(a) end).fft_real_along)
  end)

  it("are asked for products of half types with parameters, but not under precise", function()
    local net = moon.nn.Linear(5, 7):to(device)
    for _, dtype in ipairs { "float16", "bfloat16" } do
      local x = moon.randn(3, 5):to(dtype):to(device):requires_grad_()
      local function step() local y = net(x) y:backward(y:detach()) end
      local by = chosen(step)
      assert.are.same({ "cublaslt", "cublaslt", "cublaslt" },
        { by.linear, by.linear_input_gradient, by.linear_weight_gradient })
      assert.are.equal("float32", net.weight.grad.dtype)
      moon.precise(true)
      by = chosen(step)
      moon.precise(false)
      assert.is_nil(by.linear)
    end
  end)

  it("leave lines of one element to us", function()
    local x = moon.ones(3, 1, { device = device })
    assert.is_nil(chosen(function() moon.rfft(x) end).fft_real_along)
  end)

  it("take matrices and biases that begin anywhere", function()
    for start = 1, 4 do
      local long = moon.randn(40, { dtype = "float32" })
      local function part(from, count) return from[{ { start, start + count - 1 } }] end
      local function run(from)
        return moon.linear(part(from, 30):view(6, 5), part(from, 20):view(4, 5), part(from, 4))
      end
      assert.is_true(far_from(run(long:to(device)), run(long)) < 1e-4)
    end
  end)

  it("multiply with a bias and an activation", function() fused_layers(device) end)

  it("keep TF32 out unless it is allowed", function()
    local a, b = moon.randn(20, 80), moon.randn(80, 20)
    local function off() return far_from(a:to(device):mm(b:to(device)), a:mm(b)) end
    assert.is_true(off() < 1e-4)
    moon.cuda.tf32(true)
    local allowed = off()
    moon.cuda.tf32(false)
    assert.is_true(allowed > 1e-3 or not libraries.emulated)
  end)
end)
