-- Cases of views: the same elements in another shape, and writing them.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local places = require "spec.support.places"
local T, W = case.float, case.whole
local copy, normal = places.copy, places.normal

local function reshaped(x, shape)
  local list, total, next_one = places.all(x), 1, 0
  shape = copy(shape)
  for _, n in ipairs(shape) do if n ~= -1 then total = total * n end end
  for i, n in ipairs(shape) do if n == -1 then shape[i] = x:numel() / total end end
  return naive.build(shape, function()
    next_one = next_one + 1
    return list[next_one]
  end)
end

-- A tensor of `shape` whose element at p is x's at source(p), p a table that may be changed.
local function picked(x, shape, source)
  return naive.build(shape, function(position)
    return naive.at(x, source(copy(position)))
  end)
end

local function flattened(x, from, to)
  from, to = normal(from or 1, x:dim()), normal(to or -1, x:dim())
  local shape, size = {}, x:size()
  if #size == 0 then return reshaped(x, { 1 }) end
  for i = 1, #size do
    if i > from and i <= to then shape[from] = shape[from] * size[i]
    else shape[#shape + 1] = size[i] end
  end
  return reshaped(x, shape)
end

local function swapped(x, a, b)
  a, b = normal(a, x:dim()), normal(b, x:dim())
  local shape = x:size()
  shape[a], shape[b] = shape[b], shape[a]
  return picked(x, shape, function(p)
    p[a], p[b] = p[b], p[a]
    return p
  end)
end

local function permuted(x, order)
  local size, shape = x:size(), {}
  for i, dim in ipairs(order) do shape[i] = size[normal(dim, #size)] end
  return picked(x, shape, function(p)
    local at = {}
    for i, dim in ipairs(order) do at[normal(dim, #size)] = p[i] end
    return at
  end)
end

local function windows(x, dim, size, step)
  dim, step = normal(dim, x:dim()), step or 1
  local shape = x:size()
  shape[dim] = math.floor((shape[dim] - size) / step) + 1
  shape[#shape + 1] = size
  return picked(x, shape, function(p)
    local k = table.remove(p)
    p[dim] = (p[dim] - 1) * step + k
    return p
  end)
end

local function expanded(x, wanted)
  local size, shape = x:size(), copy(wanted)
  local missing = #shape - #size
  for i = 1, #shape do if shape[i] == -1 then shape[i] = size[i - missing] end end
  return picked(x, shape, function(p)
    for _ = 1, missing do table.remove(p, 1) end
    for i = 1, #size do if size[i] == 1 then p[i] = 1 end end
    return p
  end)
end

local function squeezed(x, dim)
  local size, shape = x:size(), {}
  for i = 1, #size do
    local gone = size[i] == 1 and (dim == nil or normal(dim, #size) == i)
    if not gone then shape[#shape + 1] = size[i] end
  end
  return reshaped(x, shape)
end

local function unsqueezed(x, dim)
  local shape = x:size()
  table.insert(shape, normal(dim, #shape + 1), 1)
  return reshaped(x, shape)
end

local function same(x) return picked(x, x:size(), function(p) return p end) end

return {
  view = {
    naive = reshaped, layouts = false, why = "a view of another layout is an error, by intent",
    cases = {
      { T { 2, 6 }, { 3, -1 }, torch = "a.view(3, -1)" },
      { T { 4 }, { 2, 1, 2 }, torch = "a.view(2, 1, 2)" },
      { T { 0, 3 }, { 3, 0 }, torch = "a.view(3, 0)" },
      { T {}, { 1, 1 }, torch = "a.view(1, 1)" },
    },
    fuzz = function(draw)
      local a, b = draw(1, 4), draw(1, 4)
      return { T { a, b, 2 }, { b * 2, a } }
    end,
  },
  reshape = {
    naive = reshaped,
    cases = {
      { T { 2, 6 }, { 3, -1 }, torch = "a.reshape(3, -1)" },
      { T { 2, 3, 2, 2 }, { 4, 6 }, torch = "a.reshape(4, 6)" },
      { T { 0, 3 }, { 3, 0 }, torch = "a.reshape(3, 0)" },
    },
    fuzz = function(draw)
      local a, b = draw(0, 4), draw(1, 4)
      return { T { a, b, 2 }, { b, 2, a } }
    end,
  },
  flatten = {
    naive = flattened,
    cases = {
      { T { 2, 3, 2 }, torch = "a.flatten()" },
      { T { 2, 3, 2, 2 }, 2, 3, torch = "a.flatten(1, 2)" },
      { T { 2, 0, 2 }, 2, torch = "a.flatten(1)" },
      { T {}, torch = "a.flatten()" },
    },
    fuzz = function(draw) return { T { draw(1, 3), draw(0, 3), draw(1, 3) }, 1, draw(1, 3) } end,
  },
  narrow = {
    naive = function(x, dim, start, length)
      dim = normal(dim, x:dim())
      local shape = x:size()
      start, shape[dim] = normal(start, shape[dim]), length
      return picked(x, shape, function(p)
        p[dim] = p[dim] + start - 1
        return p
      end)
    end,
    cases = {
      { T { 4, 3 }, 1, 2, 2, torch = "a.narrow(0, 1, 2)" },
      { T { 2, 5 }, -1, -2, 2, torch = "a.narrow(-1, -2, 2)" },
      { T { 2, 5 }, 2, 3, 0, torch = "a.narrow(1, 2, 0)" },
    },
    fuzz = function(draw)
      local n = draw(1, 6)
      local start = draw(1, n)
      return { T { 2, n }, 2, start, draw(0, n - start + 1) }
    end,
  },
  select = {
    naive = function(x, dim, index)
      dim = normal(dim, x:dim())
      local shape = x:size()
      index = normal(index, table.remove(shape, dim))
      return picked(x, shape, function(p)
        table.insert(p, dim, index)
        return p
      end)
    end,
    cases = {
      { T { 4, 3 }, 1, 2, torch = "a.select(0, 1)" },
      { T { 2, 3, 2 }, 2, -1, torch = "a.select(1, -1)" },
      { T { 3 }, 1, 3, torch = "a.select(0, 2)" },
      { T { 2, 0 }, 1, 1, torch = "a.select(0, 0)" },
    },
    fuzz = function(draw)
      local n = draw(1, 5)
      return { T { draw(1, 3), n }, 2, draw(1, n) }
    end,
  },
  unfold = {
    naive = windows,
    cases = {
      { T { 6 }, 1, 3, torch = "a.unfold(0, 3, 1)" },
      { T { 2, 7 }, 2, 3, 2, torch = "a.unfold(1, 3, 2)" },
      { T { 5, 2 }, 1, 2, 3, torch = "a.unfold(0, 2, 3)" },
      { T { 3, 2 }, 1, 3, 5, torch = "a.unfold(0, 3, 5)" },
    },
    fuzz = function(draw)
      local n = draw(1, 7)
      return { T { draw(1, 2), n }, 2, draw(1, n), draw(1, 3) }
    end,
  },
  transpose = {
    naive = swapped,
    cases = {
      { T { 2, 3 }, 1, 2, torch = "a.transpose(0, 1)" },
      { T { 2, 3, 4 }, -1, 1, torch = "a.transpose(-1, 0)" },
      { T { 2, 0 }, 2, 1, torch = "a.transpose(1, 0)" },
    },
    fuzz = function(draw)
      return { T { draw(1, 3), draw(0, 3), draw(1, 3) }, draw(1, 3), draw(1, 3) }
    end,
  },
  t = {
    naive = function(x) return x:dim() == 2 and swapped(x, 1, 2) or same(x) end,
    cases = {
      { T { 2, 3 }, torch = "a.t()" }, { T { 3 }, torch = "a.t()" }, { T {}, torch = "a.t()" },
      { T { 1, 0 }, torch = "a.t()" },
    },
    fuzz = function(draw) return { T { draw(0, 4), draw(1, 4) } } end,
  },
  permute = {
    naive = permuted,
    cases = {
      { T { 2, 3, 4 }, { 3, 1, 2 }, torch = "a.permute(2, 0, 1)" },
      { T { 2, 3, 2, 1 }, { 1, 3, 4, 2 }, torch = "a.permute(0, 2, 3, 1)" },
      { T { 2, 0 }, { -1, 1 }, torch = "a.permute(-1, 0)" },
    },
    fuzz = function(draw)
      local orders = { { 1, 3, 2 }, { 2, 1, 3 }, { 2, 3, 1 }, { 3, 1, 2 }, { 3, 2, 1 } }
      return { T { draw(1, 3), draw(0, 3), draw(1, 3) }, orders[draw(1, 5)] }
    end,
  },
  expand = {
    naive = expanded,
    cases = {
      { T { 3, 1 }, { 3, 4 }, torch = "a.expand(3, 4)" },
      { T { 1, 2 }, { 2, 3, -1 }, torch = "a.expand(2, 3, -1)" },
      { T {}, { 2, 2 }, torch = "a.expand(2, 2)" },
      { T { 1 }, { 0 }, torch = "a.expand(0)" },
    },
    fuzz = function(draw)
      local n = draw(1, 3)
      return { T { n, 1 }, { draw(1, 3), n, draw(0, 3) } }
    end,
  },
  squeeze = {
    naive = squeezed,
    cases = {
      { T { 1, 3, 1 }, torch = "a.squeeze()" },
      { T { 1, 3, 1 }, -1, torch = "a.squeeze(-1)" },
      { T { 2, 3 }, 1, torch = "a.squeeze(0)" },
      { T { 1, 0 }, torch = "a.squeeze()" },
    },
    fuzz = function(draw) return { T { draw(1, 2), draw(0, 2), draw(1, 2) }, draw(1, 3) } end,
  },
  unsqueeze = {
    naive = unsqueezed,
    cases = {
      { T { 2, 3 }, 1, torch = "a.unsqueeze(0)" },
      { T { 2, 3 }, -1, torch = "a.unsqueeze(-1)" },
      { T {}, 1, torch = "a.unsqueeze(0)" },
      { T { 0, 2 }, 2, torch = "a.unsqueeze(1)" },
    },
    fuzz = function(draw) return { T { draw(0, 3), draw(1, 3) }, draw(1, 3) } end,
  },
  contiguous = {
    naive = same,
    cases = {
      { T { 2, 3 }, torch = "a.contiguous()" },
      { T { 2, 3, 2, 2 }, torch = "a.contiguous()" },
      { T { 0 }, torch = "a.contiguous()" },
    },
  },
  clone = {
    naive = same,
    cases = {
      { T { 2, 3 }, torch = "a.clone()" }, { T {}, torch = "a.clone()" },
      { T { 0, 2 }, torch = "a.clone()" },
    },
    large = { T { 500, 300 } },
  },
  cast = {
    call = function(x, dtype) return x:to(dtype) end,
    naive = function(x, dtype)
      if dtype == "float32" then return x:to(dtype) end   -- rounding is the float type's own
      return naive.build(x:size(), function(p)
        local v = naive.at(x, p)
        return v < 0 and math.ceil(v) or math.floor(v)
      end, dtype)
    end,
    gradient = false, why = "the gradient in another type is witnessed in views_spec",
    dtypes = { "float64" },
    cases = {
      { T { 2, 3 }, "int64", torch = "a.long()" },
      { T { 2, 3 }, "float32", torch = "a.float()" },
      { W({ 4 }, -3, 3), "int32", torch = "a.int()" },
    },
  },
  copy = {
    call = function(self, source) return self:clone():copy_(source) end,
    naive = function(self, source) return expanded(source, self:size()) end,
    cases = {
      { T { 2, 3 }, T { 2, 3 }, torch = "a.clone().copy_(b)" },
      { T { 2, 3 }, T { 3 }, torch = "a.clone().copy_(b)" },
      { T { 0, 3 }, T { 1, 3 }, torch = "a.clone().copy_(b)" },
    },
    fuzz = function(draw)
      local n, m = draw(1, 4), draw(0, 4)
      return { T { n, m }, T { draw(0, 1) == 1 and n or 1, m } }
    end,
  },
  fill = {
    call = function(self, value) return self:clone():fill_(value) end,
    naive = function(self, value)
      if moon.is_tensor(value) then value = value:item() end
      return naive.build(self:size(), function() return value end)
    end,
    cases = {
      { T { 2, 3 }, 1.5, torch = "a.clone().fill_(1.5)" },
      { T { 2, 3 }, T {}, torch = "a.clone().fill_(b)" },
      { T { 0 }, 1, torch = "a.clone().fill_(1)" },
    },
  },
  zero = {
    call = function(self) return self:clone():zero_() end,
    naive = function(self) return naive.build(self:size(), function() return 0 end) end,
    cases = {
      { T { 2, 3 }, torch = "a.clone().zero_()" }, { T { 0 }, torch = "a.clone().zero_()" },
      { T {}, torch = "a.clone().zero_()" },
    },
  },
}
