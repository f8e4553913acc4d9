-- The witnesses that every operator faces, over the cases of spec/cases (format: case.lua). Each is
-- a function of an entry and its operator's descriptor that fails with the number of the case.
--
--   values     the naive reference, float64
--   fuzz       the naive reference on drawn shapes
--   peer       PyTorch's stored results and gradients (entry.peer: why there are none)
--   gradient   finite differences (entry.gradient = false with entry.why: there is none)
--   second     finite differences of the gradient, or the sentence of an operator without
--   dtypes     the other float types against float64 (entry.dtypes: the only ones, with why)
--   layouts    transposed, strided and channels-last inputs and gradients (entry.layouts = false
--              with why)
--   threads    1, 2 and 3 threads, bit for bit
--   device     results and gradients of another device against the CPU's, all types and layouts
local moon = require "moonlet"
local case = require "spec.support.case"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"
local sources = require "spec.support.sources"
local stream = require "spec.support.stream"

local unpack = table.unpack or unpack

local witnesses = {}

-- Relative above 1, absolute below. Halves keep 11 and 8 bits of every input and of the result.
local tolerances = { values = 1e-10, torch = 1e-10, gradient = 1e-6, layouts = 1e-12,
                     float32 = 2e-5, float16 = 2e-2, bfloat16 = 1e-1 }

local function tolerance(entry, name)
  return entry.tolerance and entry.tolerance[name] or tolerances[name]
end

local function callee(entry) return entry.call or moon[entry.operator] end

local function pack(...) return { n = select("#", ...), ... } end

-- Runs fn, putting the case in front of what it raises.
local function within(label, fn, ...)
  local ok, message = pcall(fn, ...)
  if not ok then error(("%s: %s"):format(label, tostring(message)), 0) end
end

local function each_case(entry, fn)
  for number, row in ipairs(entry.cases) do
    within("case " .. number, fn, number, row, case.arguments(entry.operator, number, row))
  end
end

-- A copy of the arguments with change(tensor) for each tensor, members of lists too.
local function mapped(arguments, count, change)
  local result = {}
  for i = 1, count do
    local argument = arguments[i]
    if moon.is_tensor(argument) then
      argument = change(argument)
    elseif type(argument) == "table" and moon.is_tensor(argument[1]) then
      local list = {}
      for k, member in ipairs(argument) do list[k] = change(member) end
      argument = list
    end
    result[i] = argument
  end
  return result
end

local function run(entry, arguments, count)
  return pack(callee(entry)(unpack(arguments, 1, count)))
end

local function flat_results(packed)
  if packed.n == 1 and type(packed[1]) == "table" and not moon.is_tensor(packed[1]) then
    packed = packed[1]
    packed.n = #packed
  end
  return packed
end

local function compare(actual, expected, allowed)
  actual, expected = flat_results(actual), expected
  if expected.n == 1 and type(expected[1]) == "table" and not moon.is_tensor(expected[1])
      and moon.is_tensor(expected[1][1]) then
    expected = flat_results(expected)
  end
  if actual.n ~= expected.n then
    error(("%d results, %d expected"):format(actual.n, expected.n), 0)
  end
  for k = 1, actual.n do
    within("result " .. k, function()
      if moon.is_tensor(actual[k]) then
        naive.close(actual[k], expected[k], allowed)
      elseif actual[k] ~= expected[k] then
        error(("expected %s, got %s"):format(tostring(expected[k]), tostring(actual[k])), 0)
      end
    end)
  end
end

local function is_float(tensor) return tensor.dtype == "float64" end

-- -- values

local function check_values(entry, arguments, count)
  compare(run(entry, arguments, count), pack(entry.naive(unpack(arguments, 1, count))),
    tolerance(entry, "values"))
end

function witnesses.values(entry)
  each_case(entry, function(_, _, arguments, count) check_values(entry, arguments, count) end)
end

-- Whole numbers for entry.fuzz, the same in every run.
local function drawer(seed)
  local draw = naive.generator(seed)
  return function(low, high) return math.min(high, math.floor(draw(low, high + 1))) end
end

function witnesses.fuzz(entry, _, rounds)
  local draw = drawer(case.seed(entry.operator, "fuzz"))
  for round = 1, rounds do
    within("round " .. round, function()
      local row = entry.fuzz(draw)
      check_values(entry, case.arguments(entry.operator, "fuzz" .. round, row))
    end)
  end
end

-- -- gradients

-- A function of the float tensors alone, for gradcheck: the tensors and a function that takes them.
local function of_tensors(entry, arguments, count)
  local tensors = {}
  mapped(arguments, count, function(tensor)
    tensors[#tensors + 1] = tensor
    return tensor
  end)
  return function(...)
    local given, position = { ... }, 0
    local call = mapped(arguments, count, function()
      position = position + 1
      return given[position]
    end)
    local results = flat_results(run(entry, call, count))
    return unpack(results, 1, results.n)
  end, tensors
end

local function has_elements(tensors)
  for _, tensor in ipairs(tensors) do
    if is_float(tensor) and tensor:numel() > 0 then return true end
  end
end

function witnesses.gradient(entry)
  each_case(entry, function(_, _, arguments, count)
    local fn, tensors = of_tensors(entry, arguments, count)
    if has_elements(tensors) then
      gradcheck.check(fn, tensors, { tolerance = tolerance(entry, "gradient") })
    end
  end)
end

-- The sum of the float results, differentiable.
local function total(results)
  local sum
  for k = 1, results.n do
    local y = results[k]
    if moon.is_tensor(y) and is_float(y) and y.requires_grad then
      sum = sum and sum + (y * y):sum() or (y * y):sum()
    end
  end
  return sum
end

-- An operator whose gradient has none says so.
local function refuses_second(fn, tensors)
  local leaves = {}
  for i, tensor in ipairs(tensors) do
    if is_float(tensor) then leaves[#leaves + 1] = tensor:clone():requires_grad_() end
    tensors[i] = is_float(tensor) and leaves[#leaves] or tensor
  end
  local loss = total(flat_results(pack(fn(unpack(tensors)))))
  local ok, message = pcall(function()
    local first = moon.grad(loss, leaves, { create_graph = true, allow_unused = true })
    local again = 0
    for i = 1, #leaves do if first[i] then again = again + (first[i] * first[i]):sum() end end
    return moon.grad(again, leaves, { allow_unused = true })
  end)
  if ok then error("the gradient has a gradient, though second = false", 0) end
  if not tostring(message):find("gradient has no gradient", 1, true) then error(message, 0) end
end

function witnesses.second(entry)
  each_case(entry, function(_, _, arguments, count)
    local fn, tensors = of_tensors(entry, arguments, count)
    if not has_elements(tensors) then return end
    if entry.second == false then return refuses_second(fn, tensors) end
    gradcheck.second(fn, tensors, { tolerance = tolerance(entry, "gradient") * 10 })
  end)
end

-- -- PyTorch

local loaded = {}

local function fixtures(family)
  if not loaded[family] then
    loaded[family] = moon.load(sources.root .. "/spec/fixtures/" .. family .. ".safetensors")
  end
  return loaded[family]
end

local function stored(family, name)
  local tensor = fixtures(family)[name]
  if tensor then return tensor end
  error(("spec/fixtures/%s.safetensors has no %s; run make_fixtures.py %s"):format(
    family, name, family), 0)
end

-- Comparisons and masks are stored as bool, as ours are.
local function peer_values(entry, family, prefix, results)
  for k = 1, results.n do
    within("result " .. k, naive.close, results[k], stored(family, prefix .. "y" .. k),
      tolerance(entry, "torch"))
  end
end

local function leaf(tensor)
  return is_float(tensor) and tensor:detach():requires_grad_() or tensor
end

local function weighted(entry, number, results)
  local sum
  for k = 1, results.n do
    local y = results[k]
    if is_float(y) and y.requires_grad then
      local seed = case.seed(entry.operator, number, "weight", k)
      local term = (y * stream.uniform(seed, y:size(), 0.5, 1.5)):sum()
      sum = sum and sum + term or term
    end
  end
  return sum
end

local function peer_gradients(entry, family, number, prefix, results, leaves)
  local loss = weighted(entry, number, results)
  if loss then loss:backward() end
  for k, x in ipairs(leaves) do
    local name = prefix .. "d" .. k
    if fixtures(family)[name] then
      local grad = x.grad or moon.zeros(x:size(), { dtype = x.dtype })
      within("gradient " .. k, naive.close, grad, fixtures(family)[name],
        tolerance(entry, "torch"))
    elseif x.grad and x.grad:abs():sum():item() ~= 0 then
      error(("gradient %d: PyTorch gives none"):format(k), 0)
    end
  end
end

function witnesses.peer(entry, _, family)
  each_case(entry, function(number, row, arguments, count)
    if not row.torch then return end
    local leaves, differentiable = {}, entry.gradient ~= false
    local call = mapped(arguments, count, function(tensor)
      leaves[#leaves + 1] = differentiable and leaf(tensor) or tensor
      return leaves[#leaves]
    end)
    local results = flat_results(run(entry, call, count))
    local prefix = ("%s/%d/"):format(entry.operator, number)
    peer_values(entry, family, prefix, results)
    if differentiable then peer_gradients(entry, family, number, prefix, results, leaves) end
  end)
end

-- -- types

local function takes(entry, descriptor, dtype)
  for _, name in ipairs(entry.dtypes or descriptor.dtypes) do
    if name == dtype then return true end
  end
end

local function check_dtype(entry, dtype, arguments, count)
  local narrow = mapped(arguments, count, function(tensor)
    return is_float(tensor) and tensor:to(dtype) or tensor
  end)
  local wide = mapped(narrow, count, function(tensor)
    return tensor.dtype == dtype and tensor:to("float64") or tensor
  end)
  local actual = flat_results(run(entry, narrow, count))
  local expected = flat_results(run(entry, wide, count))
  for k = 1, actual.n do
    if moon.is_tensor(expected[k]) and is_float(expected[k]) then
      within("result " .. k, naive.close, actual[k], expected[k], tolerance(entry, dtype), dtype)
    end
  end
end

function witnesses.dtypes(entry, descriptor)
  for _, dtype in ipairs { "float32", "float16", "bfloat16" } do
    if takes(entry, descriptor, dtype) then
      within(dtype, each_case, entry, function(_, _, arguments, count)
        check_dtype(entry, dtype, arguments, count)
      end)
    end
  end
end

-- -- layouts

local function reversed(x)
  local order = {}
  for i = 1, x:dim() do order[i] = x:dim() + 1 - i end
  return x:permute(order):contiguous():permute(order)
end

-- Every second element of a wider tensor, from its second row on.
local function sliced(x)
  if x:numel() == 0 then return x end
  local wide = moon.stack({ x, x:clone() }, -1):select(-1, 1)
  local padded = moon.cat({ wide:narrow(1, 1, 1), wide }, 1)
  local strided = moon.stack({ padded, padded }, -1):select(-1, 2)
  return strided:narrow(1, 2, x:size(1))
end

local function channels_last(x)
  if x:dim() < 3 or x:dim() > 5 then return x end
  return x:contiguous "channels_last"
end

local layouts = { reversed = reversed, sliced = sliced, channels_last = channels_last }

-- The gradients of the float inputs, when the results' are the results, laid out by `change`.
local function gradients(entry, arguments, count, change)
  local leaves = { n = 0 }
  local call = mapped(arguments, count, function(tensor)
    local x = is_float(tensor) and tensor:detach():requires_grad_() or tensor
    if x ~= tensor then leaves.n = leaves.n + 1; leaves[leaves.n] = x end
    return x
  end)
  local state = moon.get_rng_state()
  local results = flat_results(run(entry, call, count))
  moon.set_rng_state(state)
  for k = 1, results.n do
    local y = results[k]
    if moon.is_tensor(y) and y.requires_grad then
      y:backward(change(y:detach()), { retain_graph = true })
    end
  end
  local grads = { n = leaves.n }
  for k = 1, leaves.n do grads[k] = leaves[k].grad or moon.zeros_like(leaves[k]) end
  return grads
end

function witnesses.layouts(entry)
  each_case(entry, function(_, _, arguments, count)
    local expected, grads = run(entry, arguments, count), nil
    if entry.gradient ~= false then
      grads = gradients(entry, arguments, count, function(y) return y end)
    end
    for name, change in pairs(layouts) do
      local function turn(tensor) return tensor:dim() > 0 and change(tensor) or tensor end
      local changed = mapped(arguments, count, turn)
      within(name, compare, run(entry, changed, count), expected, tolerance(entry, "layouts"))
      if grads then
        within(name .. "'s gradient", compare, gradients(entry, changed, count, turn), grads,
          tolerance(entry, "layouts"))
      end
    end
  end)
end

-- -- threads

local function bytes_of(results)
  local parts = {}
  for k = 1, results.n do
    local y = results[k]
    parts[k] = moon.is_tensor(y) and y:contiguous():tobytes() or tostring(y)
  end
  return table.concat(parts, "|")
end

local function with_gradients(entry, arguments, count, dtype)
  local leaves = {}
  local call = mapped(arguments, count, function(tensor)
    local x = is_float(tensor) and tensor:to(dtype):detach() or tensor
    if x.dtype == dtype and entry.gradient ~= false then x:requires_grad_() end
    leaves[#leaves + 1] = x
    return x
  end)
  local results = flat_results(run(entry, call, count))
  local parts = { bytes_of(results) }
  local loss
  for k = 1, results.n do
    local y = results[k]
    if moon.is_tensor(y) and y.requires_grad then loss = loss and loss + y:sum() or y:sum() end
  end
  if loss then loss:backward() end
  for _, x in ipairs(leaves) do
    if x.grad then parts[#parts + 1] = x.grad:contiguous():tobytes() end
  end
  return table.concat(parts, "#")
end

function witnesses.threads(entry, descriptor)
  local before = moon.get_num_threads()
  local dtype = takes(entry, descriptor, "float32") and "float32" or "float64"
  local rows = { unpack(entry.cases) }
  rows[#rows + 1] = entry.large
  local ok, message = pcall(function()
    for number, row in ipairs(rows) do
      local first
      for threads = 1, 3 do
        moon.set_num_threads(threads)
        local arguments, count = case.arguments(entry.operator, number, row)
        local state = moon.get_rng_state()
        local bytes = with_gradients(entry, arguments, count, dtype)
        moon.set_rng_state(state)
        first = first or bytes
        if bytes ~= first then
          error(("case %d: %d threads give other bits than one"):format(number, threads), 0)
        end
      end
    end
  end)
  moon.set_num_threads(before)
  if not ok then error(message, 0) end
end

-- -- devices

local function moved_to(device, results)
  local there = { n = results.n }
  for k = 1, results.n do
    local y = results[k]
    if moon.is_tensor(y) and y.device ~= device then
      error(("result %d lies on %s, not on %s"):format(k, y.device, device), 0)
    end
    there[k] = moon.is_tensor(y) and y:cpu() or y
  end
  return there
end

-- Calls fn with `device` for new tensors, but only where a case has no tensors that say where its
-- results belong, or makes some in a call of its own.
local function placed(entry, device, arguments, count, fn)
  for i = 1, entry.call and 0 or count do
    local value = arguments[i]
    if type(value) == "table" then value = value[1] end
    if moon.is_tensor(value) then return fn() end
  end
  return moon.with_device(device, fn)
end

-- Results and gradients of the float inputs, where they are asked for, as one list on the CPU.
local function all_results(entry, arguments, count, device, dtype, change)
  local leaves, differentiable = {}, entry.gradient ~= false
  local call = mapped(arguments, count, function(tensor)
    local x = change(tensor)
    if is_float(tensor) then
      x = x:to(dtype):to(device):detach()
      if differentiable then leaves[#leaves + 1] = x:requires_grad_() end
      return x
    end
    return x:to(device)
  end)
  return placed(entry, device, call, count, function()
    local results = flat_results(run(entry, call, count))
    local all = moved_to(device, results)
    for k = 1, results.n do
      local y = results[k]
      if moon.is_tensor(y) and y.requires_grad then
        y:backward(change(y:detach()), { retain_graph = true })
      end
    end
    for _, x in ipairs(leaves) do
      all.n = all.n + 1
      all[all.n] = x.grad and x.grad:cpu() or false
    end
    return all
  end)
end

-- Both sides round, each in an order of its own: what cancels keeps the error of what it was.
local function largest(tensor)
  if tensor.dtype == "float64" or not tensor.dtype:find "float" or tensor:numel() == 0 then
    return 1
  end
  local size = tensor:to("float64"):abs():max():item()
  return size > 1 and size < math.huge and size or 1
end

-- Most results are the same to the bit, which is quicker to see than that they are close.
local function same_bytes(a, b)
  return table.concat(a:size(), "x") == table.concat(b:size(), "x") and a:tobytes() == b:tobytes()
end

local function check_device(entry, device, dtype, arguments, count, change)
  local state = moon.get_rng_state()
  local expected = all_results(entry, arguments, count, "cpu", dtype, change)
  moon.set_rng_state(state)
  local actual = all_results(entry, arguments, count, device, dtype, change)
  local allowed = dtype == "float64" and tolerance(entry, "values") or tolerance(entry, dtype)
  if actual.n ~= expected.n then
    error(("%d results, %d on the CPU"):format(actual.n, expected.n), 0)
  end
  for k = 1, actual.n do
    within("result " .. k, function()
      if moon.is_tensor(expected[k]) then
        if actual[k].dtype ~= expected[k].dtype then
          error(("%s, %s on the CPU"):format(actual[k].dtype, expected[k].dtype), 0)
        end
        if not same_bytes(actual[k], expected[k]) then
          naive.close(actual[k], expected[k], allowed * largest(expected[k]), expected[k].dtype)
        end
      elseif actual[k] ~= expected[k] then
        error(("%s, %s on the CPU"):format(tostring(actual[k]), tostring(expected[k])), 0)
      end
    end)
  end
end

-- What a case is run in: everything, or, where a device is slow, one half type and one layout,
-- which change from case to case, and many elements in float32 alone.
local function forms_of(entry, descriptor, number, row, thorough)
  local dtypes, names = { "float64", "float32", "float16", "bfloat16" }, {}
  for name in pairs(entry.layouts ~= false and layouts or {}) do names[#names + 1] = name end
  table.sort(names)
  if not thorough then
    dtypes = { "float64", "float32", number % 2 == 0 and "float16" or "bfloat16" }
    names = { names[number % math.max(#names, 1) + 1] }
    if row == entry.large then dtypes, names = { "float32" }, {} end
  end
  local taken = {}
  for _, dtype in ipairs(dtypes) do
    if takes(entry, descriptor, dtype) or dtype == "float64" then taken[#taken + 1] = dtype end
  end
  if #taken == 0 then taken = { "float64" } end
  return taken, names
end

function witnesses.device(entry, descriptor, device, thorough)
  local function same(tensor) return tensor end
  local rows = { unpack(entry.cases) }
  rows[#rows + 1] = entry.large
  for number, row in ipairs(rows) do
    local function check(label, dtype, change)
      within(("case %d, %s"):format(number, label), function()
        local arguments, count = case.arguments(entry.operator, number, row)
        check_device(entry, device, dtype, arguments, count, change)
      end)
    end
    local dtypes, names = forms_of(entry, descriptor, number, row, thorough)
    for _, dtype in ipairs(dtypes) do check(dtype, dtype, same) end
    for _, name in ipairs(names) do
      check(name, "float64", function(tensor)
        return tensor:dim() > 0 and layouts[name](tensor) or tensor
      end)
    end
  end
end

return witnesses
