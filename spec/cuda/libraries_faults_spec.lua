-- What is kept of CUDA's libraries' answers, and what happens where they refuse or fail. Stand-ins
-- in processes of their own print what they are asked and fail where they are told to
-- (spec/emulated/stand_in.h).
local libraries = require "spec.support.gpu_libraries"

if libraries.absent or not libraries.emulated then return end

local function output_of(piece, environment)
  local output, well = libraries.run(piece, environment)
  assert.is_true(well, output)
  return output
end

local function count(text, pattern) return select(2, text:gsub(pattern, "")) end

local convolutions = [[
  local x, w = moon.randn(2, 4, 8, 8):to(device), moon.randn(4, 4, 3, 3):to(device)
  x:requires_grad_() w:requires_grad_()
  local function step()
    local y = moon.conv2d(x, w, nil, { padding = 1 })
    y:backward(y:detach())
  end
]]

describe("a library is asked", function()
  it("once a shape", function()
    local output = output_of(convolutions .. [[
      step() step() step()
      local a = moon.randn(9, 9):to(device)
      a:mm(a) a:mm(a)
      moon.rfft(a) moon.rfft(a)
      moon.cuda.synchronize()
    ]], { EMULATED_TRACE = 1 })
    assert.are.equal(1, count(output, "ForwardAlgorithm_v7"))
    assert.are.equal(3, count(output, "cudnnConvolutionForward %d"))
    assert.are.equal(3, count(output, "cudnnConvolutionBackwardFilter %d"))
    assert.are.equal(1, count(output, "AlgoGetHeuristic"))
    assert.are.equal(2, count(output, "cublasLtMatmul %d"))
    assert.are.equal(1, count(output, "cufftMakePlanMany64"))
    assert.are.equal(2, count(output, "cufftExecC2C"))
  end)

  it("once a shape where they are many, as in networks", function()
    local output = output_of([[
      local function ones(...) return moon.ones(..., { device = device }) end
      for _ = 1, 2 do
        for i = 16, 128, 16 do
          for o = 16, 128, 16 do
            moon.conv2d(ones { 1, i, 1, 1 }, ones { o, i, 1, 1 })
            ones { i, 2 }:mm(ones { 2, o })
          end
          moon.rfft(ones { i })
        end
      end
      moon.cuda.synchronize()
    ]], { EMULATED_TRACE = 1 })
    assert.are.equal(64, count(output, "ForwardAlgorithm_v7"))
    assert.are.equal(64, count(output, "AlgoGetHeuristic"))
    assert.are.equal(8, count(output, "cufftMakePlanMany64"))
  end)

  it("again for shapes that took each other's place", function()
    local output = output_of([[
      local worst = 0
      local function compare(there, here)
        worst = math.max(worst, (there:cpu() - here):abs():max():item())
      end
      local function convolve(n)
        local x, w = moon.randn(1, 1, 1, n), moon.randn(1, 1, 1, 2)
        compare(moon.conv2d(x:to(device), w:to(device)), moon.conv2d(x, w))
      end
      local function multiply(n)
        local x, y = moon.randn(1, n), moon.randn(n, 1)
        compare(x:to(device):mm(y:to(device)), x:mm(y))
      end
      local function transform(n)
        local x = moon.randn(n)
        compare(moon.rfft(x:to(device)), moon.rfft(x))
      end
      for _, try in ipairs { { convolve, 1060 }, { multiply, 520 }, { transform, 40 } } do
        for n = 2, try[2] do try[1](n) end
        for n = 2, 20 do try[1](n) end
      end
      print(worst)
    ]])
    assert.is_true(tonumber(output) < 1e-3, output)
  end)

  it("to time what it has with benchmark, in the workspace that is allowed", function()
    local function trace(before)
      return output_of(convolutions .. before .. "step() step() moon.cuda.synchronize()",
        { EMULATED_TRACE = 1 })
    end
    local output = trace "moon.cuda.benchmark(true)"
    for _, algorithm in ipairs { 0, 1, 6 } do   -- two runs each, and those of the fastest
      assert.is_true(count(output, "cudnnConvolutionForward " .. algorithm) >= 2)
    end
    assert.are.equal(8, count(output, "cudnnConvolutionForward %d"))
    assert.are.equal(0, count(output, "cudnnConvolutionBackwardData 0"))   -- not steady
    assert.are.equal(2, count(trace "", "cudnnConvolutionForward 6"))
    assert.are.equal(2, count(trace "moon.precise(true)", "cudnnConvolutionForward 1"))
    assert.are.equal(2, count(trace "moon.workspace_limit(0)", "cudnnConvolutionForward 0"))
  end)

  it("again where there was no room to time what it has", function()
    local output = output_of [[
      local x = moon.ones({ 1, 1, 1024, 1024 }, { device = device })   -- 4 MiB
      local w = moon.ones({ 1, 1, 1, 1 }, { device = device })
      moon.cuda.benchmark(true)
      local used = moon.cuda.memory()
      moon.cuda.memory_limit(used.live + used.cached + 6 * 2 ^ 20)
      print(pcall(moon.conv2d, x, w))
      moon.cuda.memory_limit(0)
      print(chosen(function() moon.conv2d(x, w) end).conv2d)
    ]]
    assert.truthy(output:find("out of memory", 1, true), output)
    assert.truthy(output:find "cudnn\n$", output)
  end)

  it("for no plan of a transform while a graph is recorded", function()
    local output = output_of([[
      local x, calls = moon.randn(3, 12, { device = device }), 0
      local run = moon.cuda.graph(function()
        calls = calls + 1
        return moon.rfft(calls == 1 and x[1] or x)
      end)
      run()
      assert((run():cpu() - moon.rfft(x:cpu())):abs():max():item() < 1e-5)
    ]], { EMULATED_TRACE = 1 })
    assert.are.equal(1, count(output, "cufftMakePlanMany64"))
  end)
end)

describe("a library that is asked for a layer", function()
  local function epilogues(call, dtype)
    local output = output_of(([[
      local x = moon.randn(6, 5):to(%q):to(device)
      local w, b = moon.randn(4, 5):to(%q):to(device), moon.randn(4):to(%q):to(device)
      %s
      moon.cuda.synchronize()
    ]]):format(dtype, dtype, dtype, call), { EMULATED_TRACE = 1 })
    local found = {}
    for number in output:gmatch "cublasLtMatmul (%d+)" do found[#found + 1] = tonumber(number) end
    return table.concat(found, " ")
  end
  local none, relu, bias, both = 1, 2, 4, 6   -- of cublasLtEpilogue_t

  for _, dtype in ipairs { "float32", "float16", "bfloat16" } do
    it("adds the bias and takes ReLU on the way, in " .. dtype, function()
      local function of(call) return tonumber(epilogues(call, dtype)) end
      assert.are.equal(none, of "moon.linear(x, w)")
      assert.are.equal(bias, of "moon.linear(x, w, b)")
      assert.are.equal(both, of "moon.linear_fused(x, w, b, { activation = 'relu' })")
      assert.are.equal(relu, of "moon.linear_fused(x, w, nil, { activation = 'relu' })")
      assert.are.equal(bias, of "moon.linear_fused(x, w, b, { activation = 'relu6' })")
    end)
  end

  it("keeps one plan for biases that lie alike", function()
    local output = output_of([[
      local x, w = moon.randn(6, 5):to(device), moon.randn(8, 5):to(device)
      for _ = 1, 3 do
        local b = moon.randn(8)
        local y = moon.linear(x, w, b:to(device)):cpu()
        assert((y - moon.linear(x:cpu(), w:cpu(), b)):abs():max():item() < 1e-4)
      end
    ]], { EMULATED_TRACE = 1 })
    assert.are.equal(1, count(output, "AlgoGetHeuristic"))
  end)

  it("leaves bias and ReLU to us where it has nothing for them", function()
    assert.are.equal(none, tonumber(epilogues("moon.linear(x, w, b)", "float64")))
  end)
end)

describe("a library that", function()
  local work = convolutions .. [[
    local by = chosen(step)
    local a, b = moon.randn(9, 9), moon.randn(9, 9)
    local product, waves
    for key, name in pairs(chosen(function() product = a:to(device):mm(b:to(device)) end)) do
      by[key] = name
    end
    for key, name in pairs(chosen(function() waves = moon.rfft(a:to(device)) end)) do
      by[key] = name
    end
    assert((product:cpu() - a:mm(b)):abs():max():item() < 1e-5)
    assert((waves:cpu() - moon.rfft(a)):abs():max():item() < 1e-5)
    local there = moon.conv2d(x, w, nil, { padding = 1 }):detach():cpu()
    local here = moon.conv2d(x:detach():cpu(), w:detach():cpu(), nil, { padding = 1 })
    assert((there - here):abs():max():item() < 1e-4)
    for _, name in ipairs { "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "mm",
                            "fft_real_along" } do
      io.write(by[name] or "own", " ")
    end
  ]]

  for call, expected in pairs {
    cudnnCreate = "implicit implicit implicit cublaslt cufft ",
    cudnnCreateFilterDescriptor = "implicit implicit implicit cublaslt cufft ",
    cudnnGetConvolutionForwardAlgorithm_v7 = "implicit cudnn cudnn cublaslt cufft ",
    cudnnGetConvolutionForwardWorkspaceSize = "implicit cudnn cudnn cublaslt cufft ",
    cublasLtCreate = "cudnn cudnn cudnn own cufft ",
  } do
    it(("cannot plan, at %s, leaves the work to us"):format(call), function()
      assert.are.equal(expected, output_of(work, { EMULATED_FAULT = call .. " fails" }))
    end)
  end

  for call, expected in pairs {
    cudnnConvolutionForward = "implicit cudnn cudnn cublaslt cufft ",
    cudnnConvolutionBackwardFilter = "cudnn cudnn implicit cublaslt cufft ",
    cublasLtMatmulAlgoGetHeuristic = "cudnn cudnn cudnn own cufft ",
    cublasLtMatmul = "cudnn cudnn cudnn own cufft ",
    cufftMakePlanMany64 = "cudnn cudnn cudnn cublaslt own ",
  } do
    it(("refuses %s leaves the work to us"):format(call), function()
      assert.are.equal(expected, output_of(work, { EMULATED_FAULT = call .. " refuses" }))
    end)
  end

  it("has nothing for channels last is given row-major arrays", function()
    assert.are.equal("cudnn cudnn cudnn cublaslt cufft ",
      output_of(work, { EMULATED_FAULT = "channels-last refuses" }))
    local output = output_of([[
      local worst = 0
      local function gradients(place, o, x, w, g)
        x, w, g = x:detach():to(place), w:detach():to(place), g:to(place)
        x:requires_grad_() w:requires_grad_()
        local y = moon[o.transposed and "conv_transpose2d" or "conv2d"](x, w, nil, o.options)
        y:backward(g)
        return { y:detach():cpu():float(), x.grad:cpu():float(), w.grad:cpu():float() }
      end
      for _, o in ipairs {
        { options = { padding = { { 1, 0 }, { 0, 2 } }, stride = 2 }, w = { 4, 2, 3, 3 } },
        { options = { groups = 2 }, w = { 4, 1, 3, 3 } },
        { options = { padding = 1, stride = 2 }, w = { 2, 4, 3, 3 }, transposed = true },
      } do
        for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16" } do
          for _, layout in ipairs { "contiguous", "channels_last" } do
            local x, w = moon.randn(2, 2, 7, 6), moon.randn(o.w)
            x = x:contiguous(layout)
            x, w = x:to(dtype), w:to(dtype)
            local y = moon[o.transposed and "conv_transpose2d" or "conv2d"](x, w, nil, o.options)
            local g = moon.randn(y:size()):to(dtype)
            local here, there = gradients("cpu", o, x, w, g), gradients(device, o, x, w, g)
            for i = 1, 3 do
              local near = (dtype == "bfloat16" and 0.05) or (dtype == "float16" and 0.01) or 1e-4
              worst = math.max(worst, (here[i] - there[i]):abs():max():item() / near /
                here[i]:abs():max():item())
            end
          end
        end
      end
      print(worst)
    ]], { EMULATED_FAULT = "channels-last refuses" })
    assert.is_true(tonumber(output) < 1, output)
  end)

  for call, status in pairs {
    cudnnConvolutionForward = "CUDNN_STATUS_EXECUTION_FAILED",
    cudnnConvolutionBackwardData = "CUDNN_STATUS_EXECUTION_FAILED",
    cublasLtMatmul = "CUBLAS_STATUS_EXECUTION_FAILED", cufftExecC2C = "cufftResult 6",
  } do
    it(("fails in %s says so"):format(call), function()
      local output, well = libraries.run(work, { EMULATED_FAULT = call .. " fails" })
      assert.is_false(well)
      local sentence = ("%s failed on cuda:0: %s"):format(call, status)
      assert.is_truthy(output:find(sentence, 1, true), output)
    end)
  end
end)
