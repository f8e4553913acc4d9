-- Cases of tensors made from nothing, or in the shape of another. What is drawn is compared with
-- Philox in plain Lua; PyTorch draws other numbers.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local philox = require "spec.support.philox"
local T = case.float

local constant, seed = "no input has an influence", 77
local f64 = { dtype = "float64" }

-- An entry with what all of these share.
local function made(entry)
  entry.gradient, entry.why = false, constant
  entry.dtypes = {}   -- the types are options here: spec/ops/creation_spec.lua
  return entry
end

local function filled(value) return function() return value end end

-- f(i) by row-major place from 0, in a shape.
local function by_place(shape, f)
  local place = -1
  return naive.build(shape, function()
    place = place + 1
    return f(place)
  end)
end

local function seeded(operator)
  return function(...)
    local state = moon.get_rng_state()
    moon.manual_seed(seed)
    local result = operator(...)
    moon.set_rng_state(state)
    return result
  end
end

local function unit(i) return philox.unit(seed, 0, i) end
local function normal(i) return philox.normal(seed, 0, i) end

local function drawn(operator, f)
  return made {
    peer = "random", call = seeded(moon[operator]),
    naive = function(shape) return by_place(shape, f) end,
    tolerance = { values = 1e-6 },   -- made in float32
    cases = { { { 2, 3 }, f64 }, { { 9 }, f64 }, { { 0, 2 }, f64 } },
    large = { { 300, 301 }, f64 },
  }
end

local function drawn_like(operator, f)
  return made {
    peer = "random", call = seeded(moon[operator]),
    naive = function(x) return by_place(x:size(), f) end,
    tolerance = { values = 1e-6 },   -- made in float32
    cases = { { T{ 2, 3 } }, { T{} }, { T{ 0, 3 } } },
  }
end

local function like(value, torch_name)
  return made {
    naive = function(x) return by_place(x:size(), filled(value)) end,
    cases = {
      { T{ 2, 3 }, torch = ("torch.%s_like(a)"):format(torch_name) },
      { T{}, torch = ("torch.%s_like(a)"):format(torch_name) }, { T{ 0, 3 } },
    },
  }
end

local function range(from, to, step)
  if type(to) ~= "number" then from, to = 1, from end
  if type(step) ~= "number" then step = 1 end
  local list = {}
  for v = from, to, step do list[#list + 1] = v end
  if #list == 0 then return moon.zeros { 0 } end
  return moon.tensor(list, f64)
end

return {
  zeros = made {
    naive = function(shape) return by_place(shape, filled(0)) end,
    cases = { { { 2, 3 }, f64, torch = "torch.zeros(2, 3)" }, { { 0, 2 } }, { {} } },
  },
  ones = made {
    naive = function(shape) return by_place(shape, filled(1)) end,
    cases = { { { 2, 3 }, f64, torch = "torch.ones(2, 3)" }, { { 0, 2 } } },
  },
  full = made {
    naive = function(shape, value) return by_place(shape, filled(value)) end,
    cases = { { { 2, 3 }, 0.1, f64, torch = "torch.full((2, 3), 0.1, dtype=torch.float64)" },
              { { 0, 2 }, 3 } },
  },
  empty = made {
    peer = "undefined elements", call = function(shape) return moon.empty(shape):fill_(1) end,
    naive = function(shape) return by_place(shape, filled(1)) end,
    cases = { { { 2, 3 } }, { { 0, 2 } } },
  },
  zeros_like = like(0, "zeros"),
  ones_like = like(1, "ones"),
  full_like = made {
    naive = function(x, value) return by_place(x:size(), filled(value)) end,
    cases = { { T{ 2, 3 }, 0.1, torch = "torch.full_like(a, 0.1)" }, { T{ 0, 3 }, 2 } },
  },
  empty_like = made {
    peer = "undefined elements", call = function(x) return moon.empty_like(x):fill_(1) end,
    naive = function(x) return by_place(x:size(), filled(1)) end,
    cases = { { T{ 2, 3 } }, { T{ 0, 3 } } },
  },
  arange = made {
    naive = range,
    fuzz = function(draw)
      return { draw(-9, 9), draw(-9, 9), draw(1, 4) * (draw(0, 1) * 2 - 1), f64 }
    end,
    cases = {
      { 5, f64, torch = "torch.arange(1, 6)" },
      { 2, 11, 3, torch = "torch.arange(2, 12, 3)" },
      { 1, 0, -0.25, f64, torch = "torch.arange(1, -0.1, -0.25, dtype=torch.float64)" },
      { 3, 2 },
    },
  },
  linspace = made {
    naive = function(from, to, count)
      return naive.build({ count }, function(at)
        return count == 1 and from or from + (to - from) * (at[1] - 1) / (count - 1)
      end)
    end,
    fuzz = function(draw) return { draw(-9, 9), draw(-9, 9), draw(0, 12), f64 } end,
    cases = {
      { -1, 2, 7, f64, torch = "torch.linspace(-1, 2, 7, dtype=torch.float64)" },
      { 3, -3, 2, f64, torch = "torch.linspace(3, -3, 2, dtype=torch.float64)" },
      { 4, 9, 1, f64, torch = "torch.linspace(4, 9, 1, dtype=torch.float64)" },
    },
  },
  fftfreq = made {
    naive = function(n, d)
      return naive.build({ n }, function(at)
        local k = at[1] - 1
        return (2 * k < n and k or k - n) / (n * d)
      end)
    end,
    fuzz = function(draw) return { draw(1, 20), draw(1, 4) / 2, f64 } end,
    cases = {
      { 8, 1, f64, torch = "fft.fftfreq(8, dtype=torch.float64)" },
      { 5, 0.1, f64, torch = "fft.fftfreq(5, 0.1, dtype=torch.float64)" },
      { 1, 1, f64, torch = "fft.fftfreq(1, dtype=torch.float64)" },
    },
  },
  rfftfreq = made {
    naive = function(n, d)
      return naive.build({ math.floor(n / 2) + 1 }, function(at) return (at[1] - 1) / (n * d) end)
    end,
    cases = {
      { 8, 1, f64, torch = "fft.rfftfreq(8, dtype=torch.float64)" },
      { 5, 0.1, f64, torch = "fft.rfftfreq(5, 0.1, dtype=torch.float64)" },
    },
  },
  eye = made {
    naive = function(n, m)
      if type(m) ~= "number" then m = n end
      return naive.build({ n, m }, function(at) return at[1] == at[2] and 1 or 0 end)
    end,
    fuzz = function(draw) return { draw(0, 6), draw(0, 6), f64 } end,
    cases = {
      { 3, f64, torch = "torch.eye(3)" }, { 2, 4, f64, torch = "torch.eye(2, 4)" },
      { 4, 2, f64, torch = "torch.eye(4, 2)" }, { 0, 3 },
    },
  },
  rand = drawn("rand", unit),
  randn = drawn("randn", normal),
  rand_like = drawn_like("rand_like", unit),
  randn_like = drawn_like("randn_like", normal),
  randint = made {
    peer = "random", call = seeded(moon.randint),
    naive = function(low, high, shape)
      return by_place(shape, function(i) return low + philox.below(seed, i, high - low + 1) end)
    end,
    cases = { { 1, 6, { 3, 4 } }, { -5, -5, { 3 } }, { -1000, 1000, { 7 } }, { 1, 2, { 0 } } },
    large = { 1, 9, { 300, 301 } },
  },
  randperm = made {
    peer = "random", call = seeded(moon.randperm),
    naive = function(n)
      local list = {}
      for i = 0, n - 1 do
        local j = philox.below(seed, i, i + 1)
        list[i + 1] = list[j + 1]
        list[j + 1] = i + 1
      end
      return n > 0 and moon.tensor(list) or moon.zeros { 0 }
    end,
    cases = { { 7 }, { 1 }, { 30 }, { 0 } },
  },
}
