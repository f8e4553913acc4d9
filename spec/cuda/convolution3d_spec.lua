-- Convolutions of volumes by cuDNN in one go: results, gradients and their gradients against the
-- CPU, and what does the work where cuDNN does not. Without a GPU a stand-in of it ends the process
-- at a wrong argument (spec/emulated/stand_in.h).
local libraries = require "spec.support.gpu_libraries"
local moon = require "moonlet"
local child = require "spec.support.child"

local unpack = table.unpack or unpack

if libraries.absent then return end

local device, chosen = libraries.device, libraries.chosen

local function numbers(...) return moon.randn(...):to "float64" end

-- Result and gradients of fn on leaves made of `tensors`, as a list.
local function with_gradients(fn, tensors, where)
  local leaves = {}
  for i, x in ipairs(tensors) do leaves[i] = x:to(where):detach():requires_grad_() end
  local y = fn(unpack(leaves))
  y:backward(y:detach())
  local list = { y:detach() }
  for _, leaf in ipairs(leaves) do list[#list + 1] = leaf.grad end
  return list
end

-- The same for gradients of the gradients' squares.
local function with_second(fn, tensors, where)
  local leaves = {}
  for i, x in ipairs(tensors) do leaves[i] = x:to(where):detach():requires_grad_() end
  local y = fn(unpack(leaves))
  local total = 0
  for _, g in ipairs(moon.grad((y * y):sum(), leaves, { create_graph = true })) do
    total = total + (g * g):sum()
  end
  return moon.grad(total, leaves)
end

-- Largest difference between two lists, beside the size of what is compared.
local function far_from(there, here)
  local worst = 0
  assert.are.equal(#here, #there)
  for i, x in ipairs(here) do
    local y = there[i]
    assert.are.equal(x.dtype, y.dtype)
    assert.are.same({ x:size() }, { y:size() })
    if x:numel() > 0 then
      x, y = x:to "float64", y:cpu():to "float64"
      worst = math.max(worst, (x - y):abs():max():item() / math.max(1, x:abs():max():item()))
    end
  end
  return worst
end

local function agrees(fn, tensors, allowed, how)
  how = how or with_gradients
  local off = far_from(how(fn, tensors, device), how(fn, tensors, "cpu"))
  assert.is_true(off <= (allowed or 1e-12), off)
end

local function convolve(options)
  return function(x, w, b) return moon.conv3d(x, w, b, options) end
end

local function transpose(options)
  return function(x, w, b) return moon.conv_transpose3d(x, w, b, options) end
end

-- Names of the operators that ran, sorted, and which of them were cuDNN's.
local function ran(fn)
  local names, by = {}, {}
  for _, row in ipairs(moon.profile(fn).operators) do
    if not row.name:find "%(" then
      names[#names + 1] = row.name
      by[row.name] = row.algorithm or by[row.name]
    end
  end
  table.sort(names)
  return names, by
end

describe("conv3d", function()
  local x, w, b = numbers(2, 4, 5, 6, 4), numbers(6, 4, 2, 3, 2), numbers(6)

  for name, options in pairs {
    ["plain"] = {}, ["strides"] = { stride = { 2, 1, 3 } }, ["padding"] = { padding = { 1, 2, 0 } },
    ["dilation"] = { dilation = { 2, 1, 3 }, padding = { 0, 1, 2 } },
    ["padding on one side"] = { padding = { { 0, 1 }, { 2, 0 }, { 1, 3 } }, stride = 2 },
    ["the same size"] = { padding = "same" }, ["a full size"] = { padding = "full" },
  } do
    it("agrees with the CPU with " .. name, function()
      agrees(convolve(options), { x, w, b })
      agrees(convolve(options), { x, w })
    end)
  end

  it("agrees with the CPU in groups", function()
    agrees(convolve { groups = 2, padding = 1 }, { x, numbers(6, 2, 2, 3, 2), b })
    agrees(convolve { groups = 4 }, { x, numbers(4, 1, 2, 3, 2) })
  end)

  it("is given row-major where cuDNN does not take channels last", function()
    local grouped = numbers(6, 2, 2, 3, 2):to "float32"
    local options = { groups = 2, padding = { { 0, 1 }, 1, 1 } }
    local by = chosen(function()
      agrees(convolve(options), { x:to "float32", grouped, b:to "float32" }, 1e-5)
    end)
    if libraries.emulated then   -- a GPU's may take them as they lie, or not at all
      assert.are.same({ "cudnn", "cudnn", "cudnn" },
        { by.conv3d_whole, by.conv3d_input_gradient, by.conv3d_weight_gradient })
    end
    grouped = numbers(4, 3, 2, 2, 2):to "bfloat16"
    agrees(transpose { groups = 2, stride = 2 }, { x:to "bfloat16", grouped }, 4e-2)
  end)

  it("takes any layout and writes channels last", function()
    local last = x:permute(1, 3, 4, 5, 2):contiguous():permute(1, 5, 2, 3, 4)
    local wide = numbers(2, 4, 5, 6, 8)[{ {}, {}, {}, {}, { 2, 5 } }]
    for _, input in ipairs { last, wide, x:transpose(3, 4) } do
      agrees(convolve { padding = 1 }, { input, w, b })
      agrees(convolve { padding = 1 }, { input:to "float32", w:to "float32" }, 1e-5)
    end
    local y = moon.conv3d(x:to(device), w:to(device))
    assert.is_true(y:permute(1, 3, 4, 5, 2):is_contiguous())
  end)

  for dtype, allowed in pairs { float32 = 1e-5, float16 = 4e-3, bfloat16 = 4e-2 } do
    it("agrees with the CPU in " .. dtype, function()
      agrees(convolve { padding = 1, stride = { 1, 2, 1 } },
        { x:to(dtype), w:to(dtype), b:to(dtype) }, allowed)
    end)
  end

  it("takes parameters of float32 beside bfloat16, and under autocast", function()
    local function mixed(given, weight, bias) return moon.conv3d(given, weight, bias) end
    agrees(mixed, { x:to "bfloat16", w:to "float32", b:to "float32" }, 4e-2)
    agrees(mixed, { x:to "float16", w:to "float32", b:to "float32" }, 4e-3)
    agrees(function(...)
      local given = { ... }
      return moon.autocast(function() return mixed(unpack(given)) end)
    end, { x:to "float32", w:to "float32", b:to "float32" }, 4e-2)
  end)

  it("takes nothing", function()
    agrees(convolve {}, { numbers(0, 4, 5, 6, 4), w, b })
    agrees(convolve {}, { numbers(2, 0, 5, 6, 4), numbers(3, 0, 2, 2, 2), numbers(3) })
    agrees(convolve {}, { x, numbers(0, 4, 2, 2, 2) })
  end)

  it("has gradients of gradients", function()
    agrees(convolve { padding = { { 1, 0 }, 1, 0 }, stride = 2 }, { x, w, b }, 1e-11, with_second)
  end)
end)

describe("conv_transpose3d", function()
  local x, w, b = numbers(2, 4, 2, 3, 2), numbers(4, 3, 2, 3, 2), numbers(3)

  for name, options in pairs {
    ["plain"] = {}, ["strides"] = { stride = { 2, 1, 3 }, padding = { 1, 0, 1 } },
    ["padding on one side"] = { padding = { { 0, 1 }, { 2, 0 }, 0 }, stride = 2 },
    ["output padding"] = { stride = 2, padding = 1, output_padding = { 1, 0, 1 } },
    ["more output padding than padding"] = { stride = 3, output_padding = { 2, 1, 0 } },
    ["dilation"] = { dilation = { 3, 1, 2 }, stride = { 1, 2, 1 } },
  } do
    it("agrees with the CPU with " .. name, function()
      agrees(transpose(options), { x, w, b })
      agrees(transpose(options), { x, w })
    end)
  end

  it("agrees with the CPU in groups and other types", function()
    agrees(transpose { groups = 2, stride = 2 }, { x, numbers(4, 2, 2, 3, 2), numbers(4) })
    agrees(transpose { padding = 1 }, { x:to "float32", w:to "float32" }, 1e-5)
    agrees(transpose { padding = 1 }, { x:to "bfloat16", w:to "bfloat16" }, 4e-2)
  end)

  it("has gradients of gradients", function()
    agrees(transpose { stride = 2, padding = 1 }, { x, w, b }, 1e-11, with_second)
  end)
end)

describe("a convolution of volumes", function()
  local x, w = moon.randn(1, 4, 4, 5, 4, { device = device }), moon.randn(4, 4, 3, 3, 3)
  w = w:to(device)

  it("is cuDNN's in all directions, with nothing laid beside it", function()
    local b = moon.randn(4, { device = device })
    local leaves = { x:detach():requires_grad_(), w:detach():requires_grad_(), b:requires_grad_() }
    local function backward(y) y:backward(y:detach()) end
    local names, by = ran(function() backward(moon.conv3d(unpack(leaves))) end)
    assert.are.same({ "conv3d", "conv3d_input_gradient", "conv3d_weight_gradient", "conv3d_whole",
                      "conv3d_whole", "sum" }, names)
    local directions = { "conv3d_whole", "conv3d_input_gradient", "conv3d_weight_gradient" }
    for _, name in ipairs(directions) do assert.are.equal("cudnn", by[name]) end
    names, by = ran(function() backward(moon.conv_transpose3d(leaves[1], leaves[2])) end)
    for _, name in ipairs(names) do assert.is_falsy(name:find "unfold" or name:find "2d") end
    for _, name in ipairs(directions) do assert.are.equal("cudnn", by[name]) end
  end)

  it("goes by planes where our kernels are preferred, or cuDNN's are too coarse", function()
    local function by() return chosen(function() moon.conv3d(x, w) end).conv2d end
    moon.conv_engine "implicit"
    local preferred = by()
    agrees(convolve { padding = 1 }, { x:cpu(), w:cpu() }, 1e-5)
    moon.conv_engine ""
    assert.are.equal("implicit", preferred)
    moon.precise(true)
    local coarse = chosen(function() moon.conv3d(x:to "bfloat16", w) end)
    moon.precise(false)
    assert.is_nil(coarse.conv3d_whole)
    assert.is_nil(by())
  end)

  it("runs again in a graph", function()
    local given = moon.zeros(1, 4, 4, 5, 4, { device = device })
    local leaf = w:detach():requires_grad_()
    local step = moon.cuda.graph(function()
      leaf.grad = nil
      local y = moon.conv3d(given, leaf, nil, { padding = 1 })
      y:backward(y:detach())
      return leaf.grad
    end)
    for _ = 1, 4 do
      local fresh = moon.randn(1, 4, 4, 5, 4)
      moon.no_grad(given.copy_, given, fresh:to(device))
      local expected = with_gradients(convolve { padding = 1 }, { fresh, w:cpu() }, "cpu")
      assert.is_true(far_from({ step() }, { expected[3] }) < 1e-4)
    end
  end)
end)

if not libraries.emulated then return end

local work = [[
  local x, w = moon.randn(2, 4, 5, 5, 4), moon.randn(4, 2, 2, 3, 2)
  local function run(where)
    local a, b = x:to(where):detach():requires_grad_(), w:to(where):detach():requires_grad_()
    local y = moon.conv3d(a, b, nil, { padding = { { 0, 1 }, 1, { 2, 0 } }, groups = 2,
                                       stride = { 2, 1, 1 }, dilation = { 2, 1, 1 } })
    y:backward(y:detach())
    return { y:detach():cpu(), a.grad:cpu(), b.grad:cpu() }
  end
  local there
  local by = chosen(function() there = run(device) end)
  for i, here in ipairs(run "cpu") do assert((there[i] - here):abs():max():item() < 1e-3) end
  for _, name in ipairs { "conv3d_whole", "conv3d_input_gradient", "conv3d_weight_gradient" } do
    io.write(by[name] or "planes", " ")
  end
]]

describe("where cuDNN", function()
  for fault, expected in pairs {
    ["cudnnGetConvolutionForwardAlgorithm_v7 refuses"] = "planes planes planes ",
    ["cudnnCreateFilterDescriptor fails"] = "planes planes planes ",
    ["cudnnConvolutionForward refuses"] = "planes cudnn cudnn ",
    ["cudnnGetConvolutionBackwardDataAlgorithm_v7 refuses"] = "cudnn planes cudnn ",
    ["cudnnConvolutionBackwardData refuses"] = "cudnn planes cudnn ",
    ["cudnnConvolutionBackwardFilter refuses"] = "cudnn cudnn planes ",
  } do
    it("says that " .. fault .. ", volumes go by planes", function()
      local output, well = libraries.run(work, { EMULATED_FAULT = fault })
      assert.is_true(well, output)
      assert.are.equal(expected, output)
    end)
  end

  for _, call in ipairs { "cudnnConvolutionForward", "cudnnConvolutionBackwardData",
                          "cudnnConvolutionBackwardFilter" } do
    it("fails in " .. call .. " on volumes, that is said", function()
      local output, well = libraries.run(work, { EMULATED_FAULT = call .. " fails" })
      assert.is_false(well)
      local sentence = call .. " failed on cuda:0: CUDNN_STATUS_EXECUTION_FAILED"
      assert.is_truthy(output:find(sentence, 1, true), output)
    end)
  end

  it("is not there, volumes go by planes", function()
    local output, well = child.run([[
      local moon = require "moonlet"
      local device = require "spec.support.gpu".device
      local function chosen(fn)
        for _, row in ipairs(moon.profile(fn).operators) do assert(row.algorithm ~= "cudnn") end
        return {}
      end
    ]] .. work)
    assert.is_true(well, output)
    assert.are.equal("planes planes planes ", output)
  end)

  it("wants more workspace than is allowed, volumes go by planes", function()
    local output = libraries.run("moon.workspace_limit(0)" .. work)
    assert.are.equal("cudnn planes planes ", output)
  end)

  it("is timed on volumes, it is once a shape", function()
    local output = libraries.run([[
      local x, w = moon.randn(2, 4, 4, 5, 4):to(device), moon.randn(4, 4, 3, 3, 3):to(device)
      moon.cuda.benchmark(true)
      moon.conv3d(x, w) moon.conv3d(x, w)
      moon.cuda.synchronize()
    ]], { EMULATED_TRACE = 1 })
    assert.are.equal(2 + 2 + 2, select(2, output:gsub("cudnnConvolutionForward %d", "")), output)
  end)
end)
