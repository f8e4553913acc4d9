-- Fourier transforms: what ties them together, sentences, failing allocations. Values and gradients
-- are in spec/cases/fft.lua.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local function complex(...)
  local shape = { ... }
  shape[#shape + 1] = 2
  return naive.random(shape)
end

describe("the Fourier transforms", function()
  it("undo each other at every length to 200", function()
    for n = 1, 200 do
      local x, r = complex(n), naive.random { n }
      naive.close(x:fft():ifft(), x, 1e-13)
      naive.close(r:rfft():irfft { n = n }, r, 1e-13)
    end
  end)

  it("keep their accuracy at long lengths of all kinds", function()
    for _, n in ipairs { 65536, 19683, 30030, 10007 } do
      local x = moon.linspace(-1, 1, 2 * n, { dtype = "float64" }):reshape(n, 2)
      naive.close((x:fft():ifft() - x):abs():amax(), 0, 1e-13)
      local r = x:real():contiguous()
      naive.close((r:rfft():irfft { n = n } - r):abs():amax(), 0, 1e-13)
      naive.close((r:float():rfft():irfft { n = n } - r:float()):abs():amax(), 0, 2e-6)
    end
  end)

  it("keep the sum of squares when orthonormal", function()
    local x = complex(3, 30)
    naive.close(x:fft { norm = "ortho" }:square():sum(), x:square():sum(), 1e-12)
  end)

  it("turn circular convolution into products", function()
    local n = 24
    local x, w = naive.random({ n }, { seed = 5 }), naive.random({ n }, { seed = 6 })
    local direct = naive.build({ n }, function(at)
      local sum = 0
      for j = 0, n - 1 do sum = sum + x[j + 1] * w[(at[1] - 1 - j) % n + 1] end
      return sum
    end)
    naive.close(x:rfft():complex_mul(w:rfft()):irfft(), direct, 1e-10)
  end)

  it("give half of a real signal's transform", function()
    local r = naive.random { 2, 9, 10 }
    local full = moon.complex(r, moon.zeros_like(r))
    naive.close(r:rfft(), full:fft():narrow(3, 1, 6), 1e-12)
    naive.close(r:rfft2(), full:fft2():narrow(3, 1, 6), 1e-12)
  end)

  it("do not read what no real signal has", function()
    local x = complex(5)
    local y = x:clone()
    y[1][2] = 0 / 0
    y[5][2] = 0 / 0
    naive.close(y:irfft(), x:irfft(), 0)
  end)

  it("are refused what they cannot transform", function()
    naive.fails("fft: input must be complex, with a last dimension of 2 (re, im), got 4x3",
      moon.fft, moon.zeros(4, 3))
    naive.fails("fft: input must be complex", moon.fft, moon.tensor(1))
    naive.fails("rfft: input has no dimension to transform", moon.rfft, moon.tensor(1))
    naive.fails("irfft: input has no dimension to transform", moon.irfft, moon.zeros(2))
    naive.fails("fft2: input must have at least 2 dimensions to transform, got 1", moon.fft2,
      moon.zeros(3, 2))
    naive.fails("fft2: dim names dimension 2 twice", moon.fft2, moon.zeros(3, 3, 2),
      { dim = { 2, -1 } })
    naive.fails("fft2: size must have one number for each of the 2 dimensions, got 1", moon.fft2,
      moon.zeros(3, 3, 2), { size = { 3 } })
    naive.fails("dimension 3 does not exist", moon.rfft, moon.zeros(3, 3), { dim = 3 })
    naive.fails("dimension 2 does not exist", moon.fft, moon.zeros(3, 2), { dim = 2 })
    naive.fails("rfft: input must have at most 7 dimensions", moon.rfft,
      moon.zeros(1, 1, 1, 1, 1, 1, 1, 1))
    naive.fails("complex: re 2 and im 3 must have the same shape", moon.complex, moon.zeros(2),
      moon.zeros(3))
    naive.fails("complex_mul: y must be complex", moon.complex_mul, moon.zeros(3, 2), moon.zeros(3))
    naive.fails("real: input must be complex", moon.real, moon.zeros(3))
  end)

  it("need an element, and float32 or float64", function()
    naive.fails("rfft: a transform needs at least 1 element, got a size of 0 for dimension 2 of "
      .. "input 3x0", moon.rfft, moon.zeros(3, 0))
    naive.fails("fft: a transform needs at least 1 element, got a size of -1", moon.fft,
      moon.zeros(3, 2), { n = -1 })
    naive.fails("irfft: a transform needs at least 1 element", moon.irfft, moon.zeros(1, 2))
    naive.fails("is more than memory can hold", moon.rfft, moon.zeros(3), { n = 2 ^ 52 })
    naive.fails("fft: input must be float32 or float64, got float16; cast it with", moon.fft,
      moon.zeros(3, 2):half())
  end)

  it("survive every failing allocation, forward and backward", function()
    local x, odd = complex(2, 6), complex(1, 37)
    local r = naive.random { 2, 6 }
    for _, f in ipairs {
      function() return x:detach():requires_grad_(true):fft2 { size = { 3, 4 } } end,
      function() return odd:detach():requires_grad_(true):ifft() end,
      function() return r:detach():requires_grad_(true):rfft() end,
      function() return x:detach():requires_grad_(true):irfft() end,
      function() return x:complex_mul(x:conj():requires_grad_(true)):complex_abs() end,
    } do
      faults.every_allocation(function() f():sum():backward() end)
    end
  end)
end)
