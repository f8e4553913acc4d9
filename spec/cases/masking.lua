-- Cases of choosing and writing by masks, element by element in row-major order.
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local T, W, B = case.float, case.whole, case.bool

-- The element of x that broadcasts to a position of a shape.
local function seen(x, at, ndim)
  local from = {}
  for i = 1, x:dim() do
    local position = at[ndim - x:dim() + i]
    from[i] = x:size(i) == 1 and 1 or position
  end
  return naive.at(x, from)
end

local function broadcast(...)
  local shape, ndim = {}, 0
  for i = 1, select("#", ...) do
    local x = select(i, ...)
    if type(x) ~= "number" then ndim = math.max(ndim, x:dim()) end
  end
  for i = 1, ndim do shape[i] = 1 end
  for i = 1, select("#", ...) do
    local x = select(i, ...)
    if type(x) ~= "number" then
      for k = 1, x:dim() do
        local size = x:size(k)
        if size ~= 1 then shape[ndim - x:dim() + k] = size end
      end
    end
  end
  return shape, ndim
end

local function value_at(x, at, ndim)
  if type(x) == "number" then return x end
  return seen(x, at, ndim)
end

local function where(mask, x, y)
  local shape, ndim = broadcast(mask, x, y)
  return naive.build(shape, function(at)
    return value_at(seen(mask, at, ndim) and x or y, at, ndim)
  end)
end

local function masked_fill(x, mask, value)
  local shape, ndim = broadcast(x, mask)
  return naive.build(shape, function(at)
    return value_at(seen(mask, at, ndim) and value or x, at, ndim)
  end)
end

local function masked_select(x, mask)
  local shape, ndim = broadcast(x, mask)
  local list = {}
  for at in naive.positions(shape) do
    if seen(mask, at, ndim) then list[#list + 1] = seen(x, at, ndim) end
  end
  return naive.build({ #list }, function(at) return list[at[1]] end)
end

local function masked_scatter(x, mask, source)
  local shape, used, values = x:size(), 0, {}
  for at in naive.positions(source:size()) do values[#values + 1] = source[at] end
  return naive.build(shape, function(at)
    if not seen(mask, at, #shape) then return naive.at(x, at) end
    used = used + 1
    return values[used]
  end)
end

-- A shape that broadcasts to `shape`.
local function draw_part(draw, shape)
  local part = {}
  for i = draw(1, #shape), #shape do part[#part + 1] = draw(0, 2) == 0 and 1 or shape[i] end
  return part
end

local function draw_shape(draw) return { draw(1, 4), draw(1, 4), draw(1, 4) } end

return {
  where = {
    naive = where,
    fuzz = function(draw)
      local shape = draw_shape(draw)
      return { B(draw_part(draw, shape)), T(draw_part(draw, shape)), T(draw_part(draw, shape)) }
    end,
    cases = {
      { B { 3, 4 }, T { 3, 4 }, T { 3, 4 }, torch = "torch.where(a, b, c)" },
      { B { 3, 1 }, T { 4 }, T { 2, 1, 4 }, torch = "torch.where(a, b, c)" },
      { B { 2, 3 }, T {}, T { 2, 1 }, torch = "torch.where(a, b, c)" },
      { B { 2, 3 }, T { 2, 3 }, 0.5, torch = "torch.where(a, b, 0.5)" },
      { B { 0, 3 }, T { 0, 3 }, T { 3 } },
    },
    large = { B { 300, 301 }, T { 300, 301 }, T { 301 } },
  },
  masked_fill = {
    naive = masked_fill,
    fuzz = function(draw)
      local shape = draw_shape(draw)
      return { T(draw_part(draw, shape)), B(draw_part(draw, shape)), T {} }
    end,
    cases = {
      { T { 3, 4 }, B { 3, 4 }, T {}, torch = "torch.masked_fill(a, b, c)" },
      { T { 3, 4 }, B { 4 }, -1.5, torch = "torch.masked_fill(a, b, -1.5)" },
      { T { 1, 4 }, B { 3, 1 }, 2, torch = "torch.where(b, 2., a)" },
      { T { 0, 4 }, B { 4 }, 2 },
    },
    large = { T { 300, 301 }, B { 300, 301 }, 1 },
  },
  masked_select = {
    naive = masked_select,
    fuzz = function(draw)
      local shape = draw_shape(draw)
      return { T(draw_part(draw, shape)), B(draw_part(draw, shape)) }
    end,
    cases = {
      { T { 3, 4 }, B { 3, 4 }, torch = "torch.masked_select(a, b)" },
      { T { 3, 1 }, B { 2, 1, 4 }, torch = "torch.masked_select(a, b)" },
      { T { 0, 4 }, B { 0, 4 } },
      { W({ 3, 4 }, -9, 9), B { 4 }, torch = "torch.masked_select(a, b)" },
    },
    large = { T { 300, 301 }, B { 300, 301 } },
  },
  masked_scatter = {
    naive = masked_scatter,
    fuzz = function(draw)
      local shape = draw_shape(draw)
      return { T(shape), B(draw_part(draw, shape)), T { shape[1] * shape[2] * shape[3] } }
    end,
    cases = {
      { T { 3, 4 }, B { 3, 4 }, T { 12 }, torch = "torch.masked_scatter(a, b, c)" },
      { T { 2, 3 }, B { 3 }, T { 3, 4 }, torch = "torch.masked_scatter(a, b, c)" },
      { T { 0, 3 }, B { 3 }, T { 2 } },
    },
  },
}
