-- conv2d_chain: maps that are large enough to be taken through in bands of rows give what the
-- convolutions give one by one, on any number of threads; sentences; failures of memory.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

-- A chain over `channels`, the first of them the image's: the operator's lists, from one kernel,
-- stride and padding for each convolution.
local function make(channels, kernels, strides, paddings, groups)
  local chain = { weights = {}, scales = {}, biases = {}, strides = strides, paddings = paddings,
                  groups = groups }
  for i, kernel in ipairs(kernels) do
    local outputs = channels[i + 1]
    chain.weights[i] = moon.randn(outputs, channels[i] / groups[i], kernel, kernel) * 0.3
    chain.scales[i], chain.biases[i] = moon.randn(outputs), moon.randn(outputs)
  end
  return chain
end

local function run(chain, x, ...)
  return moon.conv2d_chain(x, chain.weights, chain.scales, chain.biases, chain.strides,
    chain.paddings, chain.groups, ...)
end

local function one_by_one(chain, x, activation, last, add)
  for i, weight in ipairs(chain.weights) do
    local final = i == #chain.weights
    x = moon.conv2d_fused(x, weight, chain.biases[i], {
      stride = chain.strides[i], padding = chain.paddings[i], groups = chain.groups[i],
      scale = chain.scales[i], add = final and add or nil,
      activation = (final and last or not final and activation) or "none",
    })
  end
  return x
end

local function algorithm(fn)
  for _, row in ipairs(moon.profile(fn).operators) do
    if row.name == "conv2d_chain" then return row.algorithm end
  end
end

-- An inverted residual at stride 1, one at stride 2, and a bottleneck with odd sizes.
local large = {
  { { 1, 8, 96, 90 }, make({ 8, 96, 96, 8 }, { 1, 3, 1 }, { 1, 1, 1 }, { 0, 1, 0 }, { 1, 96, 1 }) },
  { { 2, 6, 113, 75 },
    make({ 6, 80, 80, 10 }, { 1, 3, 1 }, { 1, 2, 1 }, { 0, 1, 0 }, { 1, 80, 1 }) },
  { { 3, 16, 151, 61 },
    make({ 16, 64, 64, 24 }, { 3, 5, 2 }, { 1, 3, 1 }, { 2, 4, 1 }, { 1, 1, 2 }) },
}

describe("conv2d_chain", function()
  for _, row in ipairs(large) do
    local shape, chain = row[1], row[2]

    it("takes maps through in bands: " .. table.concat(shape, "x"), function()
      local x = moon.randn(shape)
      assert.truthy(algorithm(function() run(chain, x, "relu6", "none") end):find "bands")
      local add = moon.randn(one_by_one(chain, x, "relu6", "none").shape)
      for _, given in ipairs { x, x:contiguous "channels_last" } do
        local expected = one_by_one(chain, given, "relu6", "relu", add)
        local found = run(chain, given, "relu6", "relu", add)
        assert.is_true((found - expected):abs():max():item() <= 1e-5 * expected:abs():max():item())
        assert.is_true(found:is_contiguous "channels_last")
      end
    end)
  end

  it("gives the same bits with any number of threads", function()
    local x, chain, found = moon.randn(large[2][1]), large[2][2], {}
    local before = moon.get_num_threads()
    finally(function() moon.set_num_threads(before) end)
    for threads = 1, 3 do
      moon.set_num_threads(threads)
      found[threads] = run(chain, x, "relu")
    end
    for threads = 2, 3 do
      assert.equal(0, (found[threads] - found[1]):abs():max():item())
    end
  end)

  it("follows its weights", function()
    local x, chain = moon.randn(large[1][1]), large[1][2]
    run(chain, x)
    chain.weights[2]:mul_(-1)
    local expected = one_by_one(chain, x)
    assert.is_true((run(chain, x) - expected):abs():max():item()
      <= 1e-5 * expected:abs():max():item())
  end)

  it("calculates halves", function()
    local x, chain = moon.randn(large[1][1]):bfloat16(), large[1][2]
    local expected, found = one_by_one(chain, x, "relu"), run(chain, x, "relu")
    assert.equal("bfloat16", found.dtype)
    assert.is_true((found:float() - expected:float()):abs():max():item()
      <= 1e-2 * expected:float():abs():max():item())
  end)

  it("survives the failure of any allocation", function()
    local x, chain = moon.randn(large[1][1]), large[1][2]
    faults.every_allocation(function() run(chain, x, "relu") end)
    faults.every_allocation(function() run(chain, x:narrow(3, 1, 9), "relu") end)
  end)

  it("says what does not fit", function()
    local x = moon.zeros(1, 2, 5, 5)
    local function one(change)
      local chain = make({ 2, 3 }, { 3 }, { 1 }, { 1 }, { 1 })
      for key, value in pairs(change) do chain[key] = value end
      return x, chain.weights, chain.scales, chain.biases, chain.strides, chain.paddings,
        chain.groups
    end
    naive.refuses("conv2d_chain", "weights must be a list of 1 to 8 tensors, got 0",
      one { weights = {} })
    naive.refuses("conv2d_chain", "scales must have one entry for each of the 1 weights, got 2",
      one { scales = { moon.ones(3), moon.ones(3) } })
    naive.refuses("conv2d_chain", "member 1 of biases must have one element for each of the 3 " ..
      "output channels, got 2", one { biases = { moon.ones(2) } })
    naive.refuses("conv2d_chain", "member 1 of weights 3x1x3x3 does not fit 2 channels in 1 " ..
      "groups", one { weights = { moon.ones(3, 1, 3, 3) } })
    naive.refuses("conv2d_chain", "convolution 1 needs a stride of at least 1 and a padding " ..
      "from 0 to below the kernel's size 3, got 1 and 3", one { paddings = { 3 } })
    naive.refuses("conv2d_chain", "convolution 1 has a kernel of 9, larger than the 5 padded " ..
      "elements it meets", one { weights = { moon.ones(3, 2, 9, 9) }, paddings = { 0 } })
    naive.refuses("conv2d_chain", "no gradient is defined",
      one { weights = { moon.ones(3, 2, 3, 3):requires_grad_() } })
  end)
end)
