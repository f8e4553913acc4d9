-- Cases of the Fourier transforms and of complex numbers, against sums written out in Lua.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T = case.float

local atan2 = math.atan2 or math.atan   -- luacheck: ignore

local halves = "the tables and passes are float32 and float64 only"
local both = { "float64", "float32" }

-- -- lines of complex tensors as lists of { re, im }

-- f(line) for every line of x along dim, as a complex tensor with `count` elements there.
local function along(x, dim, count, f)
  local shape, lines = x:size(), {}
  local last = #shape
  shape[dim] = count
  return naive.build(shape, function(at)
    local key = {}
    for i = 1, last - 1 do key[i] = i == dim and 0 or at[i] end
    key = table.concat(key, ",")
    if not lines[key] then
      local from, line = {}, {}
      for i = 1, last do from[i] = at[i] end
      for j = 1, x:size(dim) do
        from[dim] = j
        from[last] = 1
        local re = x[from]
        from[last] = 2
        line[j] = { re, x[from] }
      end
      lines[key] = f(line)
    end
    return lines[key][at[dim]][at[last]]
  end)
end

local function scale_of(norm, inverse, n)
  if norm == "ortho" then return 1 / math.sqrt(n) end
  return ((norm == "forward") == not inverse) and 1 / n or 1
end

-- The sum over j of line[j] exp(-+2 pi i j k / n), with zeros behind the line or cut to n.
local function sums(line, n, inverse, norm)
  local result, sign = {}, inverse and 1 or -1
  for k = 0, n - 1 do
    local re, im = 0, 0
    for j = 0, math.min(n, #line) - 1 do
      local angle = sign * 2 * math.pi * (j * k % n) / n
      local c, s = math.cos(angle), math.sin(angle)
      re = re + line[j + 1][1] * c - line[j + 1][2] * s
      im = im + line[j + 1][1] * s + line[j + 1][2] * c
    end
    local scale = scale_of(norm, inverse, n)
    result[k + 1] = { re * scale, im * scale }
  end
  return result
end

local function transform(x, dim, n, inverse, norm)
  return along(x, dim, n, function(line) return sums(line, n, inverse, norm) end)
end

local function with_zeros(x)
  local shape = x:size()
  shape[#shape + 1] = 2
  return naive.build(shape, function(at)
    if at[#at] == 2 then return 0 end
    local place = {}
    for i = 1, #at - 1 do place[i] = at[i] end
    return x[place]
  end)
end

-- The real signal of n elements whose spectrum starts with the line.
local function to_real(x, dim, n, norm)
  local complex = along(x, dim, n, function(line)
    local full = {}
    for k = 0, n - 1 do
      local mirrored = n - k
      if k <= math.floor(n / 2) then
        local given = line[k + 1] or { 0, 0 }
        local edge = k == 0 or 2 * k == n
        full[k + 1] = { given[1], edge and 0 or given[2] }
      else
        local given = line[mirrored + 1] or { 0, 0 }
        full[k + 1] = { given[1], -given[2] }
      end
    end
    return sums(full, n, true, norm)
  end)
  return complex:select(-1, 1)
end

-- -- options

local function signal_dims(x, o, complex)
  local ndim = x:dim() - (complex and 1 or 0)
  local dims = o.dim or { ndim - 1, ndim }
  local result = {}
  for i, d in ipairs(dims) do result[i] = d < 0 and d + ndim + 1 or d end
  return result
end

local function line_options(x, o, complex)
  o = o or {}
  local ndim = x:dim() - (complex and 1 or 0)
  local dim = o.dim or -1
  if dim < 0 then dim = dim + ndim + 1 end
  return dim, o.norm or "backward", o
end

local function naive_fft(inverse)
  return function(x, options)
    local dim, norm, o = line_options(x, options, true)
    return transform(x, dim, o.n or x:size(dim), inverse, norm)
  end
end

local function naive_rfft(x, options)
  local dim, norm, o = line_options(x, options)
  local n = o.n or x:size(dim)
  return transform(with_zeros(x), dim, n, false, norm):narrow(dim, 1, math.floor(n / 2) + 1)
end

local function naive_irfft(x, options)
  local dim, norm, o = line_options(x, options, true)
  return to_real(x, dim, o.n or 2 * (x:size(dim) - 1), norm)
end

local function naive_fft2(inverse)
  return function(x, o)
    o = o or {}
    for i, dim in ipairs(signal_dims(x, o, true)) do
      x = transform(x, dim, o.size and o.size[i] or x:size(dim), inverse, o.norm)
    end
    return x
  end
end

local function naive_rfft2(x, o)
  o = o or {}
  local dims = signal_dims(x, o)
  local last = dims[#dims]
  x = with_zeros(x)
  local sizes = {}
  for i, dim in ipairs(dims) do
    sizes[i] = o.size and o.size[i] or x:size(dim)
    x = transform(x, dim, sizes[i], false, o.norm)
  end
  return x:narrow(last, 1, math.floor(sizes[#dims] / 2) + 1)
end

local function naive_irfft2(x, o)
  o = o or {}
  local dims = signal_dims(x, o, true)
  local last = dims[#dims]
  for i = 1, #dims - 1 do
    x = transform(x, dims[i], o.size and o.size[i] or x:size(dims[i]), true, o.norm)
  end
  return to_real(x, last, o.size and o.size[#dims] or 2 * (x:size(last) - 1), o.norm)
end

-- -- complex numbers

local function parts(f)   -- f(re, im) -> re, im of every element
  return function(x)
    return along(x, 1, x:size(1), function(line)
      local result = {}
      for i, z in ipairs(line) do result[i] = { f(z[1], z[2]) } end
      return result
    end)
  end
end

local function part(f)
  local both_parts = parts(f)
  return function(x)
    if x:dim() == 1 then return (f(x[1], x[2])) end
    return both_parts(x):select(-1, 1)
  end
end

local function fuzz_line(complex)
  return function(draw)
    local n, norms = draw(1, 40), { "backward", "ortho", "forward" }
    local shape = draw(0, 1) == 1 and { draw(1, 3), n } or { n }
    if complex then shape[#shape + 1] = 2 end
    return { T(shape), { n = draw(1, 40), norm = norms[draw(1, 3)] } }
  end
end

local function fuzz_grid(complex)
  return function(draw)
    local shape = { draw(1, 7), draw(1, 7) }
    if complex then shape[3] = 2 end
    return { T(shape), { size = { draw(1, 7), draw(1, 7) } } }
  end
end

local cc = "torch.view_as_complex(a)"
local function of(f, rest) return ("torch.view_as_real(fft.%s(%s%s))"):format(f, cc, rest or "") end
local function real_of(f, rest) return ("torch.view_as_real(fft.%s(a%s))"):format(f, rest or "") end
local function to(f, rest) return ("fft.%s(%s%s)"):format(f, cc, rest or "") end

return {
  fft = {
    naive = naive_fft(false), dtypes = both, why = halves, fuzz = fuzz_line(true),
    large = { T{ 40, 4096, 2 } },
    cases = {
      { T{ 8, 2 }, torch = of "fft" },
      { T{ 3, 15, 2 }, { norm = "ortho" }, torch = of("fft", ", norm='ortho'") },
      { T{ 5, 2, 2 }, { dim = 1, norm = "forward" }, torch = of("fft", ", dim=0, norm='forward'") },
      { T{ 2, 6, 2 }, { n = 9 }, torch = of("fft", ", n=9") },
      { T{ 2, 6, 2 }, { n = 4, dim = -1 }, torch = of("fft", ", n=4") },
      { T{ 37, 2 }, torch = of "fft" },           -- a prime above the largest factor
      { T{ 74, 1, 2 }, { dim = 1 }, torch = of("fft", ", dim=0") },
      { T{ 1, 2 }, torch = of "fft" },
      { T{ 0, 4, 2 } },
    },
  },
  ifft = {
    naive = naive_fft(true), dtypes = both, why = halves, fuzz = fuzz_line(true),
    cases = {
      { T{ 8, 2 }, torch = of "ifft" },
      { T{ 2, 21, 2 }, { norm = "ortho" }, torch = of("ifft", ", norm='ortho'") },
      { T{ 6, 3, 2 }, { dim = -2, n = 10 }, torch = of("ifft", ", n=10, dim=-2") },
      { T{ 41, 2 }, { norm = "forward" }, torch = of("ifft", ", norm='forward'") },
      { T{ 0, 4, 2 } },
    },
  },
  rfft = {
    naive = naive_rfft, dtypes = both, why = halves, fuzz = fuzz_line(false),
    large = { T{ 40, 6000 } },
    cases = {
      { T{ 12 }, torch = real_of "rfft" },
      { T{ 3, 7 }, torch = real_of "rfft" },
      { T{ 6, 2 }, { dim = 1, norm = "ortho" }, torch = real_of("rfft", ", dim=0, norm='ortho'") },
      { T{ 2, 5 }, { n = 8, norm = "forward" }, torch = real_of("rfft", ", n=8, norm='forward'") },
      { T{ 82 }, torch = real_of "rfft" },
      { T{ 1 }, torch = real_of "rfft" },
      { T{ 0, 4 } },
    },
  },
  irfft = {
    naive = naive_irfft, dtypes = both, why = halves, fuzz = fuzz_line(true),
    cases = {
      { T{ 5, 2 }, torch = to "irfft" },
      { T{ 2, 4, 2 }, { n = 7 }, torch = to("irfft", ", n=7") },
      { T{ 4, 2, 2 }, { dim = 1, norm = "ortho" }, torch = to("irfft", ", dim=0, norm='ortho'") },
      { T{ 3, 2 }, { n = 9, norm = "forward" }, torch = to("irfft", ", n=9, norm='forward'") },
      { T{ 42, 2 }, torch = to "irfft" },
      { T{ 1, 2 }, { n = 1 }, torch = to("irfft", ", n=1") },
      { T{ 0, 4, 2 } },
    },
  },
  fft2 = {
    naive = naive_fft2(false), dtypes = both, why = halves, fuzz = fuzz_grid(true),
    cases = {
      { T{ 4, 6, 2 }, torch = of "fft2" },
      { T{ 2, 3, 5, 2 }, { norm = "ortho" }, torch = of("fft2", ", norm='ortho'") },
      { T{ 3, 2, 4, 2 }, { dim = { 3, 1 } }, torch = of("fft2", ", dim=(2, 0)") },
      { T{ 3, 4, 2 }, { size = { 4, 2 } }, torch = of("fft2", ", s=(4, 2)") },
      { T{ 2, 3, 2, 2 }, { dim = { 1, 2, 3 } }, torch = of "fftn" },
      { T{ 0, 2, 3, 2 } },
    },
  },
  ifft2 = {
    naive = naive_fft2(true), dtypes = both, why = halves, fuzz = fuzz_grid(true),
    cases = {
      { T{ 4, 6, 2 }, torch = of "ifft2" },
      { T{ 2, 3, 5, 2 }, { norm = "forward", dim = { 1, 3 } },
        torch = of("ifft2", ", norm='forward', dim=(0, 2)") },
    },
  },
  rfft2 = {
    naive = naive_rfft2, dtypes = both, why = halves, fuzz = fuzz_grid(false),
    cases = {
      { T{ 4, 6 }, torch = real_of "rfft2" },
      { T{ 2, 3, 5 }, { norm = "ortho" }, torch = real_of("rfft2", ", norm='ortho'") },
      { T{ 3, 4, 2 }, { dim = { 3, 1 }, size = { 3, 6 } },
        torch = real_of("rfft2", ", dim=(2, 0), s=(3, 6)") },
    },
  },
  irfft2 = {
    naive = naive_irfft2, dtypes = both, why = halves, fuzz = fuzz_grid(true),
    cases = {
      { T{ 4, 4, 2 }, torch = to "irfft2" },
      { T{ 2, 3, 3, 2 }, { norm = "ortho", size = { 4, 5 } },
        torch = to("irfft2", ", s=(4, 5), norm='ortho'") },
      { T{ 3, 2, 4, 2 }, { dim = { 3, 1 } }, torch = to("irfft2", ", dim=(2, 0)") },
    },
  },
  complex = {
    naive = function(re, im)
      local shape = re:size()
      shape[#shape + 1] = 2
      return naive.build(shape, function(at)
        local place, x = {}, at[#at] == 1 and re or im
        for i = 1, #at - 1 do place[i] = at[i] end
        return naive.at(x, place)
      end)
    end,
    cases = {
      { T{ 2, 3 }, T{ 2, 3 }, torch = "torch.view_as_real(torch.complex(a, b))" },
      { T{}, T{}, torch = "torch.view_as_real(torch.complex(a, b))" },
      { T{ 0, 2 }, T{ 0, 2 } },
    },
  },
  real = {
    naive = part(function(re) return re, 0 end),
    cases = { { T{ 3, 2, 2 }, torch = cc .. ".real" }, { T{ 2 }, torch = cc .. ".real" } },
  },
  imag = {
    naive = part(function(_, im) return im, 0 end),
    cases = { { T{ 3, 2, 2 }, torch = cc .. ".imag" }, { T{ 2 }, torch = cc .. ".imag" } },
  },
  conj = {
    naive = parts(function(re, im) return re, -im end),
    cases = { { T{ 3, 2, 2 }, torch = "torch.view_as_real(" .. cc .. ".conj().resolve_conj())" },
              { T{ 0, 2 } } },
  },
  complex_mul = {
    naive = function(x, y)
      local out = x:dim() >= y:dim() and x or y
      local function at_of(z, at, k)
        local place = {}
        for i = 1, z:dim() - 1 do
          local from = at[i + out:dim() - z:dim()]
          place[i] = z:size(i) == 1 and 1 or from
        end
        place[z:dim()] = k
        return z[place]
      end
      local shape = out:size()
      for i = 1, #shape do
        local xi, yi = i - #shape + x:dim(), i - #shape + y:dim()
        shape[i] = math.max(xi > 0 and x:size(xi) or 1, yi > 0 and y:size(yi) or 1)
      end
      return naive.build(shape, function(at)
        local a, b, c, d = at_of(x, at, 1), at_of(x, at, 2), at_of(y, at, 1), at_of(y, at, 2)
        if at[#at] == 1 then return a * c - b * d end
        return a * d + b * c
      end)
    end,
    cases = {
      { T{ 3, 4, 2 }, T{ 3, 4, 2 },
        torch = "torch.view_as_real(torch.view_as_complex(a) * torch.view_as_complex(b))" },
      { T{ 3, 1, 2 }, T{ 4, 2 },
        torch = "torch.view_as_real(torch.view_as_complex(a) * torch.view_as_complex(b))" },
    },
  },
  complex_abs = {
    naive = part(function(re, im) return math.sqrt(re * re + im * im), 0 end),
    cases = { { T{ 3, 4, 2 }, torch = cc .. ".abs()" }, { T{ 2 }, torch = cc .. ".abs()" } },
  },
  complex_angle = {
    naive = part(function(re, im) return atan2(im, re), 0 end),
    cases = { { T{ 3, 4, 2 }, torch = cc .. ".angle()" }, { T{ 2 }, torch = cc .. ".angle()" } },
  },
}
