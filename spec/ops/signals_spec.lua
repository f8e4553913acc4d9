-- Convolution of signals, pyramids and template matching: known answers, the convolution theorem at
-- length, flat windows, sentences, and that no failing allocation leaks. Values and gradients on
-- drawn shapes are in spec/cases/signals.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

describe("convolve", function()
  it("multiplies polynomials", function()
    -- (1 + 2 x + 3 x^2) (4 + 5 x)
    naive.close(moon.convolve(moon.tensor { 1, 2, 3 }, moon.tensor { 4, 5 }), { 4, 13, 22, 15 })
  end)

  it("does not care which is the kernel, correlate does", function()
    local x, y = naive.random({ 7 }, { seed = 3 }), naive.random({ 4 }, { seed = 4 })
    naive.close(moon.convolve(x, y), moon.convolve(y, x))
    naive.close(moon.correlate(x, y), moon.correlate(y, x):flip(1))
  end)

  it("takes any leading dimensions, and whole numbers in half precision exactly", function()
    local x, k = naive.random({ 2, 1, 3, 5 }, { whole = true, low = -4, high = 4 }),
      moon.tensor({ 1, -2 }, { dtype = "float64" })
    local y = moon.convolve(x, k, "valid")
    assert.same({ 2, 1, 3, 4 }, y:size())
    for _, dtype in ipairs { "float16", "bfloat16" } do
      naive.close(moon.convolve(x:to(dtype), k:to(dtype), "valid"), y, 0, dtype)
    end
  end)
end)

describe("the convolution theorem", function()
  it("holds to 1e-10 in float64, for signals and images, in every mode", function()
    for _, sizes in ipairs {
      { { 500 }, { 77 } }, { { 3, 128 }, { 128 } }, { { 64, 61 }, { 15, 20 } },
      { { 2, 33, 40 }, { 33, 1 } },
    } do
      local x, k = naive.random(sizes[1], { seed = 5 }), naive.random(sizes[2], { seed = 6 })
      for _, mode in ipairs { "full", "same", "valid" } do
        naive.close(moon.fft_convolve(x, k, mode), moon.convolve(x, k, mode), 1e-10)
      end
    end
  end)

  it("holds written out: conv = ifft(fft x * fft w)", function()
    local x, w = naive.random({ 20 }, { seed = 7 }), naive.random({ 9 }, { seed = 8 })
    local product = moon.complex_mul(x:rfft(28), w:rfft(28))
    naive.close(product:irfft(28), moon.convolve(x, w), 1e-10)
    local X, W = moon.complex(x, x * 0):fft(28), moon.complex(w, w * 0):fft(28)
    local y = moon.complex_mul(X, W):ifft()
    naive.close(y:real(), moon.convolve(x, w), 1e-10)
    naive.close(y:imag(), moon.zeros(28), 1e-10)
  end)
end)

describe("match_template", function()
  it("is 1 at the template whatever brightness and contrast, -1 at its negative", function()
    local picture = naive.random({ 20, 24 }, { seed = 9 })
    local template = picture:narrow(1, 5, 6):narrow(2, 11, 7)
    for _, change in ipairs { { 1, 0 }, { 3, 100 }, { 0.01, -5 } } do
      local scores = moon.match_template(picture * change[1] + change[2], template)
      assert.same({ 15, 18 }, scores:size())
      assert.is_true(math.abs(scores[{ 5, 11 }] - 1) < 1e-10)
      assert.equal((5 - 1) * 18 + 11, scores:view(-1):argmax():item())
    end
    assert.is_true(math.abs(moon.match_template(-picture, template)[{ 5, 11 }] + 1) < 1e-10)
  end)

  it("is 0 on flat windows and for flat templates, with gradients that are numbers", function()
    for _, dtype in ipairs { "float32", "float64" } do
      local picture = moon.full({ 6, 6 }, 0.3, { dtype = dtype })
      picture[{ 6, 6 }] = 1
      picture.requires_grad = true
      local scores = moon.match_template(picture, moon.tensor({ { 0, 1 }, { 1, 0 } },
        { dtype = dtype }))
      assert.is_true(scores:narrow(1, 1, 4):abs():max():item() < 1e-3)
      scores:sum():backward()
      assert.is_true(picture.grad:isfinite():all():item())
      local flat = moon.match_template(picture:detach(), moon.ones(2, 2, { dtype = dtype }))
      assert.equal(0, flat:abs():max():item())
    end
  end)
end)

describe("pyramid", function()
  it("keeps what is even, and halves sizes upwards", function()
    local sizes = {}
    for i, level in ipairs(moon.pyramid(moon.full({ 3, 17, 9 }, 5), 5)) do
      sizes[i] = level:size()
      naive.close(level, moon.full(level:size(), 5), 1e-5)
    end
    assert.same({ { 3, 17, 9 }, { 3, 9, 5 }, { 3, 5, 3 }, { 3, 3, 2 }, { 3, 2, 1 } }, sizes)
  end)

  it("begins with the input itself", function()
    local x = moon.randn(4, 4):requires_grad_()
    local levels = x:pyramid(2)
    local total = levels[1]:sum() + levels[2]:sum()
    total:backward()
    assert.is_true(math.abs(x.grad:sum():item() - 20) < 1e-4)
  end)
end)

describe("signals", function()
  it("survive the failure of any allocation", function()
    local x, k = moon.randn(2, 6, 6):requires_grad_(), moon.randn(2, 3):requires_grad_()
    for _, name in ipairs { "convolve", "correlate", "fft_convolve" } do
      faults.every_allocation(function()
        moon[name](x, k, "same"):sum():backward()
        x.grad, k.grad = nil, nil
      end)
    end
    faults.every_allocation(function()
      moon.match_template(x, k):sum():backward()
      x.grad, k.grad = nil, nil
    end)
    faults.every_allocation(function()
      moon.pyramid(x, 3)[3]:sum():backward()
      x.grad = nil
    end)
  end)

  it("say what is wrong", function()
    local x = moon.zeros(4, 6)
    for _, name in ipairs { "convolve", "correlate", "fft_convolve" } do
      local function fails(text, ...) naive.fails(name .. ": " .. text, moon[name], ...) end
      fails("kernel must have 1 dimension (for signals) or 2 (for images), got 1x1x1", x,
        moon.zeros(1, 1, 1))
      fails("input must have at least the kernel's 2 dimensions, got 6", moon.zeros(6),
        moon.zeros(2, 2))
      fails("the kernel's length 7 is larger than the input's 6; in mode \"valid\" it must lie " ..
        "inside", x, moon.zeros(7), "valid")
      fails("the kernel's height must be from 1 to 2147483647, got 0", x, moon.zeros(0, 2))
      fails("input has no length (input 4x0)", moon.zeros(4, 0), moon.zeros(2))
      fails("input is float32 but kernel is float64", x, moon.zeros(2):double())
      fails('mode must be one of "full", "same", "valid", got "most"', x, moon.zeros(2), "most")
    end
    naive.fails("fft_convolve: input must be float32 or float64, got float16", moon.fft_convolve,
      x:half(), moon.zeros(2):half())
    naive.fails("convolve: input must be of a float type, got int64", moon.convolve, x:long(),
      moon.zeros(2):long())
    naive.fails("pyramid: levels must be from 1 to 64, got 0", moon.pyramid, x, 0)
    naive.fails("pyramid: input must be images (..., h, w), got 0x4", moon.pyramid,
      moon.zeros(0, 4))
    naive.fails("match_template: the template must lie inside the input and have its channels " ..
      "(input 4x6, template 5x2)", moon.match_template, x, moon.zeros(5, 2))
    naive.fails("match_template: template must be (h, w) or (c, h, w), got 2", moon.match_template,
      x, moon.zeros(2))
    naive.fails("match_template: input must have the template's dimensions, or the batch in " ..
      "front of them (input 4x6, template 1x2x2)", moon.match_template, x, moon.zeros(1, 2, 2))
  end)
end)
