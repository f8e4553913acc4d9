-- Compares the gradients that backward gives with central differences, in float64.
--
-- The function's float64 results are multiplied with fixed weights between 0.5 and 1.5 and added
-- up, so that every element of every result counts with a factor of its own. The error of a
-- central difference is step^2 for the series cut short and 1e-16 / step for rounding, which is why
-- float32 will not do.

local core = require "moonlet.core"
local options = require "moonlet.options"
local unpack = require "moonlet.unpack"

local schema = {
  step = { "number", 1e-5 }, tolerance = { "number", 1e-6 }, raise = { "boolean", false },
  may_be_constant = { "boolean", false }, second = { "any", false }, most = { "integer", 0 },
}

local GOLDEN, OTHER = 0.6180339887498949, 0.7548776662466927

local function is_varied(value)
  return core.is_tensor(value) and value.dtype == "float64"
end

-- -- one number of all results

-- The parts behind the point of multiples of irrational numbers: spread evenly, the same each time.
local function weights(shape, k)
  local count = 1
  for _, size in ipairs(shape) do count = count * size end
  if count == 0 then return core.zeros(shape, { dtype = "float64" }) end
  local steps = core.arange(1, count, 1, { dtype = "float64" }) * GOLDEN + k * OTHER
  return (steps - steps:floor() + 0.5):reshape(shape)
end

local function weighted_sum(...)
  local total
  for k = 1, select("#", ...) do
    local result = select(k, ...)
    if is_varied(result) then
      local term = (result * weights(result:size(), k)):sum()
      total = total and total + term or term
    end
  end
  if not total then error("gradcheck: the function returned no float64 tensor", 0) end
  return total
end

-- -- differences

local function at(x, position)
  if #position == 0 then return x:item() end
  return x[position]
end

local function set(x, position, value)
  if #position == 0 then x:fill_(value) else x[position] = value end
end

-- The position of the element of a number from 0, counted with the last index first.
local function place(number, shape)
  local position = {}
  for i = #shape, 1, -1 do
    position[i] = number % shape[i] + 1
    number = math.floor(number / shape[i])
  end
  return position
end

-- The slope of the loss in one element, which is put back as it was.
local function slope(loss, input, position, step)
  local here = at(input, position)
  set(input, position, here + step)
  local above = loss()
  set(input, position, here - step)
  local below = loss()
  set(input, position, here)
  return (above - below) / (2 * step)
end

-- nil where they agree in all elements, or in o.most of them from the first to the last, else the
-- sentence.
local function compare(loss, input, number, grad, o)
  local count = input:numel()
  local checked = o.most > 0 and math.min(o.most, count) or count
  for k = 0, checked - 1 do
    local element = checked > 1 and math.floor(k * (count - 1) / (checked - 1) + 0.5) or 0
    local position = place(element, input:size())
    local expected = slope(loss, input, position, o.step)
    local actual = grad and at(grad, position) or 0
    local off = math.abs(actual - expected)
    if off ~= off or off > o.tolerance * math.max(1, math.abs(expected)) then
      return ("gradient of input %d at {%s}: backward gives %.10g, differences %.10g"):format(
        number, table.concat(position, ", "), actual, expected)
    end
  end
end

-- The same random numbers in every evaluation.
local function repeatable(fn)
  local stream = core.get_rng_state()
  return function(...)
    core.set_rng_state(stream)
    return fn(...)
  end
end

-- Gradients of the leaves, or the sentence that there is none.
local function fill_gradients(run, leaves, count, o)
  local total = weighted_sum(run(unpack(leaves, 1, count)))
  if total.requires_grad then
    total:backward()
  elseif not o.may_be_constant then
    return "the results depend on none of the inputs, as far as the tape knows"
  end
end

local function first_order(fn, inputs, count, o)
  local leaves, run = {}, repeatable(fn)
  for i = 1, count do
    leaves[i] = inputs[i]
    if is_varied(inputs[i]) then leaves[i] = inputs[i]:detach():requires_grad_() end
  end
  local problem = core.enable_grad(fill_gradients, run, leaves, count, o)
  if problem then return problem end
  local function loss()
    return core.no_grad(function() return weighted_sum(run(unpack(inputs, 1, count))):item() end)
  end
  for i = 1, count do
    if is_varied(inputs[i]) then
      local message = compare(loss, inputs[i], i, leaves[i].grad, o)
      if message then return message end
    end
  end
end

-- -- the gradient as a function of its own

-- The gradients of sum(weights * (y + y * y / 2)), which depend on the inputs through y even where
-- the function is linear, and so on what came in as the gradient of the result.
local function gradients(fn, ...)
  local count, given, leaves, bent = select("#", ...), { ... }, {}, {}
  for i = 1, count do
    if is_varied(given[i]) then
      if not given[i].requires_grad then given[i] = given[i]:detach():requires_grad_() end
      leaves[#leaves + 1] = given[i]
    end
  end
  local function bend(...)
    for k = 1, select("#", ...) do
      local y = select(k, ...)
      if is_varied(y) then bent[#bent + 1] = y + y * y * 0.5 end
    end
  end
  bend(fn(unpack(given, 1, count)))
  local loss = weighted_sum(unpack(bent))
  if not loss.requires_grad then return core.zeros(1, { dtype = "float64" }) end
  local grads = core.grad(loss, leaves, { create_graph = true, allow_unused = true })
  for i = 1, #leaves do
    grads[i] = grads[i] or core.zeros(leaves[i]:size(), { dtype = "float64" })
  end
  return unpack(grads, 1, #leaves)
end

local function second_order(fn, inputs, count, o)
  local all = { step = o.step, tolerance = o.tolerance, most = o.most, may_be_constant = true }
  local message = first_order(function(...)
    return core.enable_grad(gradients, fn, ...)
  end, inputs, count, all)
  return message and "of the gradient, " .. message
end

-- -- the call

-- A tensor whose elements no earlier input has: varying one would vary the other.
local function alone(tensor, list, count)
  for i = 1, count do
    if core.is_tensor(list[i]) and tensor:shares_memory(list[i]) then return tensor:clone() end
  end
  return tensor
end

local function read_inputs(inputs)
  if core.is_tensor(inputs) then inputs = { inputs } end
  if type(inputs) ~= "table" then
    error(("gradcheck: inputs must be a tensor or a list, got %s"):format(type(inputs)), 4)
  end
  local count, varied, list = 0, false, {}
  for i in pairs(inputs) do
    if type(i) == "number" then count = math.max(count, i) end
  end
  for i = 1, count do
    list[i] = inputs[i]
    if is_varied(inputs[i]) then
      list[i], varied = alone(inputs[i]:detach(), list, i - 1), true
    end
  end
  if not varied then
    error("gradcheck: none of the inputs is a float64 tensor; differences of float32 are too "
      .. "coarse, so make them with {dtype = \"float64\"} or :double()", 4)
  end
  return list, count
end

local function check(fn, inputs, o)
  local list, count = read_inputs(inputs)
  local message
  if o.second ~= "only" then message = first_order(fn, list, count, o) end
  if not message and o.second then message = second_order(fn, list, count, o) end
  return message
end

--- Compares the gradients of fn(inputs...) with differences. All float64 inputs are varied, through
-- whatever strides they have; other values are passed as they are. Gives true, or nil and the
-- first disagreement; other errors are raised.
-- @tparam function fn gives one or more tensors; the random numbers it draws repeat
-- @tparam table inputs its arguments, or one tensor
-- @tparam ?table given step = 1e-5; tolerance = 1e-6, relative where the slope is above 1;
-- second = true checks the gradient's gradient too, "only" nothing else; raise = true makes a
-- disagreement an error; may_be_constant = true allows results that depend on no input; most = n
-- varies n elements of each input, from its first to its last, where all would take too long
-- @usage local x = moon.randn(3, { dtype = "float64" })
-- assert(moon.gradcheck(function(t) return t:exp() end, x, { second = true }))
-- @function moon.gradcheck(fn, inputs, given)
return function(fn, inputs, given)
  local o = options.read("gradcheck", given, schema, 3)
  options.argument("gradcheck", "fn", fn, "callable", 3)
  if o.most < 0 then
    error(("gradcheck: most must be 0, for all elements, or more, not %d"):format(o.most), 2)
  end
  if o.second ~= "only" and type(o.second) ~= "boolean" then
    error('gradcheck: second must be true, false or "only"', 2)
  end
  local message = check(fn, inputs, o)
  if not message then return true end
  if o.raise then error("gradcheck: " .. message, 2) end
  return nil, message
end
