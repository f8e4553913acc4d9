-- Compares what backward gives with central differences, in float64.
--
--   gradcheck.check(function(x, w) return x:matmul(w) end, { x, w })
--
-- The function may return several tensors; each is multiplied with fixed weights and added up, so
-- that every element of every result counts with a factor of its own. Inputs of a float type are
-- varied, through whatever strides they have; anything else is passed as it is.
-- The error of a central difference is step^2 for the cut series and 1e-16 / step for rounding.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local gradcheck = {}

local function is_varied(input)
  return moon.is_tensor(input) and input.dtype == "float64"
end

-- The same elements in a leaf, sharing memory with the input.
local function leaf_of(input)
  if not is_varied(input) then return input end
  local leaf = input:detach()
  leaf.requires_grad = true
  return leaf
end

-- Adds up all float results with weights between 0.5 and 1.5, as a 0-d tensor.
local function weighted_sum(...)
  local total
  for k = 1, select("#", ...) do
    local result = select(k, ...)
    if is_varied(result) then
      local weights = naive.random(result:size(), { low = 0.5, high = 1.5, seed = 100 + k })
      local term = (result * weights):sum()
      total = total and total + term or term
    end
  end
  if not total then error("gradcheck: the function returned no float64 tensor", 3) end
  return total
end

local function set(input, position, value)
  if #position == 0 then input:fill_(value) else input[position] = value end
end

-- The slope of the loss in one element, which is put back as it was.
local function difference(loss, input, position, step)
  local here = naive.at(input, position)
  set(input, position, here + step)
  local above = loss()
  set(input, position, here - step)
  local below = loss()
  set(input, position, here)
  return (above - below) / (2 * step)
end

local function compare(loss, input, number, grad, options)
  local step, tolerance = options.step or 1e-5, options.tolerance or 1e-6
  for position in naive.positions(input:size()) do
    local expected = difference(loss, input, position, step)
    local actual = grad and naive.at(grad, position) or 0
    local off = math.abs(actual - expected)
    if off ~= off or off > tolerance * math.max(1, math.abs(expected)) then
      error(("gradient of input %d at {%s}: backward gives %.10g, differences %.10g"):format(number,
        table.concat(position, ", "), actual, expected), 3)
    end
  end
end

-- Fails where the two disagree by more than options.tolerance (1e-6, relative above 1) at a step of
-- options.step (1e-5). Returns true.
function gradcheck.check(fn, inputs, options)
  options = options or {}
  local count = 0
  for i in pairs(inputs) do count = math.max(count, i) end
  local unpack = table.unpack or unpack   -- luacheck: ignore
  local leaves = {}
  for i = 1, count do leaves[i] = leaf_of(inputs[i]) end
  local total = weighted_sum(fn(unpack(leaves, 1, count)))
  if total.requires_grad or not options.may_be_constant then total:backward() end
  local function loss()
    return moon.no_grad(function() return weighted_sum(fn(unpack(inputs, 1, count))):item() end)
  end
  for i = 1, count do
    if is_varied(inputs[i]) then compare(loss, inputs[i], i, leaves[i].grad, options) end
  end
  return true
end

-- The gradients of sum(weights * (y + y * y / 2)), which depend on the inputs through y even where
-- the function is linear, and so on what came in as the gradient of the result.
local function gradients(fn, ...)
  local count, given, leaves = select("#", ...), { ... }, {}
  for i = 1, count do
    if is_varied(given[i]) then
      if not given[i].requires_grad then given[i] = given[i]:detach():requires_grad_() end
      leaves[#leaves + 1] = given[i]
    end
  end
  local unpack = table.unpack or unpack   -- luacheck: ignore
  local results, bent = { n = 0 }, {}
  local function take(...) results = { n = select("#", ...), ... } end
  take(fn(unpack(given, 1, count)))
  for k = 1, results.n do
    local y = results[k]
    if is_varied(y) then bent[#bent + 1] = y + y * y * 0.5 end
  end
  local loss = weighted_sum(unpack(bent))
  if not loss.requires_grad then return moon.zeros(1, { dtype = "float64" }) end
  local grads = moon.grad(loss, leaves, { create_graph = true, allow_unused = true })
  for i = 1, #leaves do
    grads[i] = grads[i] or moon.zeros(leaves[i]:size(), { dtype = "float64" })
  end
  return unpack(grads, 1, #leaves)
end

-- The same for the gradient of the gradient.
function gradcheck.second(fn, inputs, options)
  local all = { may_be_constant = true }
  for name, value in pairs(options or {}) do all[name] = value end
  return gradcheck.check(function(...)
    return moon.enable_grad(gradients, fn, ...)
  end, inputs, all)
end

return gradcheck
