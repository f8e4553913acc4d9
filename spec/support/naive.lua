-- What specs of operators calculate with: numbers that are the same in every run and owe nothing to
-- the library's own generator, walks over multi-indices in plain Lua, and comparisons that say
-- where two tensors differ.
local moon = require "moonlet"

local naive = {}

-- A generator of numbers from low to high (Lehmer 1951, "minimal standard").
function naive.generator(seed)
  local state = (seed or 1) * 48271 % 2147483647
  return function(low, high)
    state = state * 48271 % 2147483647
    return low + (high - low) * (state / 2147483647)
  end
end

-- All positions of a shape in row-major order, each as a table of indices from 1. The table is
-- used again for the next position. A 0-d shape, {}, has one position, {}.
function naive.positions(shape)
  local at, first = {}, true
  for i = 1, #shape do
    at[i] = 1
    if shape[i] == 0 then return function() end end
  end
  return function()
    if first then
      first = false
      return at
    end
    for i = #shape, 1, -1 do
      at[i] = at[i] + 1
      if at[i] <= shape[i] then return at end
      at[i] = 1
    end
  end
end

-- The number at a position.
function naive.at(tensor, position)
  if #position == 0 then return tensor:item() end
  return tensor[position]
end

-- A tensor whose element at each position is f(position); float64 unless dtype says else.
function naive.build(shape, f, dtype)
  local list = {}
  for position in naive.positions(shape) do list[#list + 1] = f(position) end
  if #list == 0 then return moon.empty(shape, { dtype = dtype or "float64" }) end
  return moon.tensor(list, { dtype = dtype or "float64" }):reshape(shape)
end

-- A float64 vector of these numbers that requires a gradient.
function naive.leaf(...)
  return moon.tensor({ ... }, { dtype = "float64", requires_grad = true })
end

-- A float64 tensor of numbers between -2 and 2. options: low, high, seed, dtype, and whole = true
-- for whole numbers (low to high, both included).
function naive.random(shape, options)
  options = options or {}
  local draw = naive.generator(options.seed)
  local low, high = options.low or -2, options.high or 2
  return naive.build(shape, function()
    if options.whole then return math.min(high, math.floor(draw(low, high + 1))) end
    return draw(low, high)
  end, options.dtype)
end

local function shape_text(shape)
  return #shape == 0 and "0-d" or table.concat(shape, "x")
end

local function near(a, b, tolerance)
  if a == b or (a ~= a and b ~= b) then return true end
  return math.abs(a - b) <= tolerance * math.max(1, math.abs(b))
end

local function number(value)
  if type(value) == "boolean" then return value and 1 or 0 end
  return value
end

-- Fails unless the tensors have the same shape and, within tolerance (absolute below 1, relative
-- above), the same elements; NaN equals NaN. `expected` may be a number or a nested table. With
-- `dtype`, that must be actual's type.
function naive.close(actual, expected, tolerance, dtype)
  if not moon.is_tensor(actual) then error("expected a tensor, got " .. type(actual), 2) end
  if dtype and actual.dtype ~= dtype then
    error("expected type " .. dtype .. ", got " .. actual.dtype, 2)
  end
  if not moon.is_tensor(expected) then expected = moon.tensor(expected, { dtype = "float64" }) end
  local shape = actual:size()
  if shape_text(shape) ~= shape_text(expected:size()) then
    error("expected " .. shape_text(expected:size()) .. ", got " .. shape_text(shape), 2)
  end
  for position in naive.positions(shape) do
    local a, b = number(naive.at(actual, position)), number(naive.at(expected, position))
    if not near(a, b, tolerance or 1e-12) then
      error(("at {%s}: expected %.17g, got %.17g"):format(table.concat(position, ", "), b, a), 2)
    end
  end
  return true
end

-- Fails unless calling f(...) raises an error that contains `text`, word for word.
function naive.fails(text, f, ...)
  local ok, message = pcall(f, ...)
  if ok then error("expected an error with: " .. text, 2) end
  message = tostring(message)
  if not message:find(text, 1, true) then
    error("expected an error with: " .. text .. "\ngot: " .. message, 2)
  end
  return true
end

-- Fails unless moon[operator](...) is refused with its name and `text`.
function naive.refuses(operator, text, ...)
  return naive.fails(operator .. ": " .. text, moon[operator], ...)
end

return naive
