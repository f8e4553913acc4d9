-- The same calculation on the CPU and on a CUDA device, compared as a whole: results have one shape
-- and dtype, NaN lies where NaN lies, and everything else is within a tolerance (0 where it is left
-- out). Views are to be made within the function, since a copy on the device is laid out anew.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"

local unpack = table.unpack or unpack

local twins = {}

local function kind_of(x) return x.dtype .. " of " .. table.concat(x:size(), " x ") end

local function is_float(x) return x.dtype:find "float" ~= nil end

-- Fails unless the tensors agree: relative above 1, absolute below.
function twins.same(actual, expected, tolerance)
  local kind, wanted = kind_of(actual), kind_of(expected)
  if kind ~= wanted then error(kind .. ", on the CPU " .. wanted, 2) end
  if expected:numel() == 0 then return end
  local a, b = actual:to("float64"), expected:to("float64")
  if not is_float(expected) or not tolerance then a, b = actual, expected end
  local equal = a:eq(b)
  if is_float(a) then equal = equal:logical_or(a:isnan():logical_and(b:isnan())) end
  if tolerance and is_float(a) then
    local near = (a - b):abs():le((b:abs() + 1) * tolerance):logical_and(b:abs():lt(math.huge))
    equal = equal:logical_or(near)
  end
  if equal:all():item() then return end
  local position = equal:logical_not():nonzero()[1]
  error(("differs at %s: %s, on the CPU %s"):format(tostring(position), tostring(actual),
    tostring(expected)), 2)
end

-- Calls fn(...) with tensors as they are and on the device, from the same random state, and
-- compares all results.
function twins.agree(tolerance, fn, ...)
  local arguments, count = { ... }, select("#", ...)
  local state = moon.get_rng_state()
  local expected = { fn(...) }
  for i = 1, count do
    if moon.is_tensor(arguments[i]) then arguments[i] = arguments[i]:to(gpu.device) end
  end
  moon.set_rng_state(state)
  local actual = moon.with_device(gpu.device, function()
    return { fn(unpack(arguments, 1, count)) }
  end)
  for i = 1, #expected do
    if moon.is_tensor(expected[i]) then
      assert(actual[i].device == gpu.device, "a result lies elsewhere")
      twins.same(actual[i]:cpu(), expected[i], tolerance)
    elseif actual[i] ~= expected[i] then
      error(("result %d is %s, on the CPU %s"):format(i, tostring(actual[i]),
        tostring(expected[i])), 2)
    end
  end
  return unpack(expected)
end

-- The same with gradients: fn's first result goes backward from a random tensor that lies as it
-- does, and the gradients of the float arguments are compared too.
function twins.agree_backward(tolerance, fn, ...)
  return twins.agree(tolerance, function(...)
    local leaves, count = { ... }, select("#", ...)
    for i = 1, count do
      local x = leaves[i]
      if moon.is_tensor(x) and is_float(x) then leaves[i] = x:detach():requires_grad_() end
    end
    local results = { fn(unpack(leaves, 1, count)) }
    local y = results[1]
    y:backward(moon.randn_like(y:detach()))
    results[1] = y:detach()
    for i = 1, count do
      local grad = moon.is_tensor(leaves[i]) and leaves[i].grad
      if grad then results[#results + 1] = grad end
    end
    return unpack(results)
  end, ...)
end

return twins
