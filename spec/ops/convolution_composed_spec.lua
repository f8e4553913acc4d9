-- Convolution in one and three dimensions, transposed, by columns and with a kernel for each
-- position: sentences, results that may be changed in place, and that no failing allocation leaks.
-- Values and gradients are in spec/cases/convolution.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local function zeros(...) return moon.zeros(...) end

describe("results of convolutions", function()
  it("may be changed in place on the tape", function()
    local x, w = moon.randn(1, 2, 6):requires_grad_(), moon.randn(3, 2, 3):requires_grad_()
    for _, f in ipairs {
      function() return moon.conv1d(x, w) end,
      function() return moon.conv_transpose1d(x, w:transpose(1, 2)) end,
      function() return moon.im2col(x:unsqueeze(3), { 1, 3 }) end,
      function() return moon.pad(x, { 1, 1 }) end,
    } do
      x.grad = nil
      f():mul_(2):sum():backward()
      local twice = x.grad:clone()
      x.grad = nil
      f():sum():backward()
      naive.close(twice, x.grad * 2, 1e-5)
    end
  end)

  it("share no memory with the input", function()
    local x = zeros(1, 1, 1, 2)
    moon.im2col(x, 1):fill_(1)
    moon.locally_connected2d(x, moon.ones(1, 2, 1, 1, 1, 1)):fill_(1)
    assert.equal(0, x:sum():item())
  end)
end)

describe("convolutions survive the failure of any allocation:", function()
  local function check(name, inputs, ...)
    local leaves, options = {}, { ... }
    for i, shape in ipairs(inputs) do leaves[i] = moon.randn(shape):requires_grad_() end
    local arguments = { (table.unpack or unpack)(leaves) }
    for _, option in ipairs(options) do arguments[#arguments + 1] = option end
    it(name, function()
      faults.every_allocation(function()
        moon[name]((table.unpack or unpack)(arguments)):sum():backward()
        for _, leaf in ipairs(leaves) do leaf.grad = nil end
      end)
    end)
  end
  check("conv1d", { { 1, 2, 5 }, { 2, 2, 3 }, { 2 } }, { padding = 1 })
  check("conv3d", { { 1, 2, 3, 3, 3 }, { 2, 2, 2, 2, 2 }, { 2 } }, { padding = 1, dilation = 2 })
  check("conv_transpose1d", { { 1, 2, 4 }, { 2, 1, 3 }, { 1 } }, { stride = 2 })
  check("conv_transpose2d", { { 1, 2, 3, 3 }, { 2, 1, 2, 2 }, { 1 } },
    { stride = 2, output_padding = 1 })
  check("conv_transpose3d", { { 1, 2, 2, 2, 2 }, { 2, 1, 2, 2, 2 }, { 1 } }, { dilation = 2 })
  check("im2col", { { 1, 2, 4, 4 } }, 2, { padding = 1, dilation = 2 })
  check("col2im", { { 1, 4, 9 } }, 4, 2)
  check("locally_connected1d", { { 1, 2, 4 }, { 3, 2, 2, 2 }, { 2, 3 } })
  check("locally_connected2d", { { 1, 2, 3, 3 }, { 2, 2, 2, 2, 2, 2 }, { 2, 2, 2 } })
end)

describe("convolutions say", function()
  local fails = naive.refuses
  local x1, w1 = zeros(2, 3, 6), zeros(4, 3, 3)
  local x3, w3 = zeros(2, 3, 4, 4, 4), zeros(4, 3, 3, 3, 3)

  it("how many channels were expected", function()
    fails("conv1d", "input has 3 channels but weight expects 6 (input 2x3x6, weight 4x3x3, " ..
      "groups 2)", x1, w1, { groups = 2 })
    fails("conv3d", "input has 3 channels but weight expects 2", x3, zeros(4, 2, 3, 3, 3))
    fails("conv_transpose1d", "input has 3 channels but weight expects 4 (input 2x3x6, weight " ..
      "4x3x3, groups 1)", x1, w1)
    fails("conv_transpose1d", "2 groups do not divide the 3 input channels (weight 3x2x3)", x1,
      zeros(3, 2, 3), { groups = 2 })
    fails("conv3d", "3 groups do not divide the 4 output channels", x3, w3, { groups = 3 })
  end)

  it("how to add the batch", function()
    fails("conv1d", "input must have 3 dimensions (n, c, length), got 3x6; add the batch with " ..
      "input:unsqueeze(1)", zeros(3, 6), w1)
    fails("conv_transpose3d", "input must have 5 dimensions (n, c, d, h, w), got 3x4x4x4; add " ..
      "the batch", zeros(3, 4, 4, 4), w3)
    fails("conv3d", "weight must have 5 dimensions (out channels, in channels / groups, d, h, w)",
      x3, w1)
    fails("conv_transpose2d", "weight must have 4 dimensions (in channels, out channels / " ..
      "groups, h, w), got 4x3x3", zeros(1, 4, 5, 5), w1)
  end)

  it("that the kernel is too large", function()
    fails("conv1d", "the kernel's length 3 (dilation 3) is larger than the padded input's 6", x1,
      w1, { dilation = 3 })
    fails("conv1d", "the kernel's length 8 (dilation 1) is larger than the padded input's 7 " ..
      "(input 2x3x6, weight 4x3x8, padding 1 and 0)", x1, zeros(4, 3, 8),
      { padding = { { 1, 0 } } })
    fails("conv3d", "the kernel's depth 5 (dilation 1) is larger than the padded input's 4", x3,
      zeros(4, 3, 5, 1, 1))
    fails("im2col", "the kernel's width 3 (dilation 2) is larger than the padded picture's 4",
      zeros(1, 1, 6, 4), 3, { dilation = 2 })
  end)

  it("which number is out of range", function()
    fails("conv3d", "stride must be at least 1, got 0", x3, w3, { stride = { 1, 0, 1 } })
    fails("conv3d", "stride must be a number or a list of three, got 2", x3, w3,
      { stride = { 1, 1 } })
    fails("conv1d", "padding must be a number, a list such as {1} or {{1, 2}}, or one of", x1, w1,
      { padding = { 1, 2 } })
    fails("conv1d", 'padding "same" needs a stride of 1, got 2', x1, w1,
      { padding = "same", stride = 2 })
    fails("conv_transpose1d", 'padding "same" has no meaning where the result grows', x1,
      zeros(3, 4, 3), { padding = "same" })
    fails("conv_transpose1d", "output_padding must be less than the stride or the dilation, got " ..
      "2 for stride 2 and dilation 1", x1, zeros(3, 4, 3), { stride = 2, output_padding = 2 })
    fails("conv_transpose1d", "padding 5, 5 leaves nothing of the result's length (input 2x3x6, " ..
      "weight 3x4x3)", x1, zeros(3, 4, 3), { padding = 5 })
    fails("conv_transpose1d", "input has no length (input 2x3x0)", zeros(2, 3, 0), zeros(3, 4, 3))
  end)

  it("which type or bias does not fit", function()
    fails("conv1d", "input is float32 but weight is float64", x1, w1:double())
    fails("conv3d", "input must be of a float type, got int64", x3:long(), w3)
    fails("conv_transpose1d", "bias must have one element for each of the 4 output channels, " ..
      "got 3 (weight 3x4x3)", x1, zeros(3, 4, 3), zeros(3))
  end)

  it("which columns do not fit", function()
    fails("col2im", "a kernel of 2x2 does not divide the input's 6 rows (input 1x6x4)",
      zeros(1, 6, 4), 3, 2)
    fails("col2im", "a picture of 4x3 has 3x2 windows but input has 4 columns (input 1x4x4)",
      zeros(1, 4, 4), { 4, 3 }, 2)
    fails("col2im", "input must have 3 dimensions", zeros(1, 4), 3, 2)
    fails("im2col", "kernel must be at least 1, got 0", zeros(1, 1, 4, 4), 0)
  end)

  it("which kernels of positions do not fit", function()
    fails("locally_connected1d", "weight has 2 positions along the length but the kernel takes 4" ..
      " (input 2x3x6, weight 2x4x3x3)", x1, zeros(2, 4, 3, 3))
    fails("locally_connected1d", "input has 3 channels but weight expects 2", x1,
      zeros(4, 4, 2, 3))
    fails("locally_connected2d", "bias must be 2x3x3 (out channels, positions), got 2",
      zeros(1, 1, 4, 4), zeros(3, 3, 2, 1, 2, 2), zeros(2))
    fails("locally_connected2d", "weight must have 6 dimensions (result h, result w, out " ..
      "channels, c, kernel h, kernel w), got 3x3x2", zeros(1, 1, 4, 4), zeros(3, 3, 2))
  end)
end)
