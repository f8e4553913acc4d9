-- Every row of pointwise.def, as moon.operators() lists them: values against formulas written again
-- in Lua, gradients against differences, layouts, types, sentences, failing allocations. A new row
-- is tested by writing its formula into spec/support/formulas.lua; without one this spec fails.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local formulas = require "spec.support.formulas"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local unpack = table.unpack or unpack

local rows = {}
for _, op in ipairs(moon.operators()) do
  if op.formula then rows[#rows + 1] = op end
end

-- Relative error that one rounding to the type, and a few in float32, may leave.
local rounding = { float64 = 1e-11, float32 = 6e-6, float16 = 2e-3, bfloat16 = 1.6e-2 }

local function takes(op, dtype)
  for _, name in ipairs(op.dtypes) do
    if name == dtype then return true end
  end
  return false
end

local function number(value)
  if type(value) == "boolean" then return value and 1 or 0 end
  return value
end

-- One or two inputs from the row's interval; options as for naive.random.
local function draw(op, shape, options)
  options = options or {}
  local inputs = {}
  for i = 1, #op.inputs do
    inputs[i] = naive.random(type(shape[1]) == "table" and shape[i] or shape, {
      low = options.low or op.low, high = options.high or op.high,
      seed = 10 * i + (options.seed or 0), dtype = options.dtype, whole = options.whole,
    })
  end
  return inputs
end

local function call(op, inputs, set)
  local arguments = { unpack(inputs) }
  for _, value in ipairs(set or {}) do arguments[#arguments + 1] = value end
  return moon[op.name](unpack(arguments))
end

-- What the formula gives for inputs of equal shape, as float64.
local function expected(op, inputs, set, whole)
  local formula = formulas.of(op, set or {}, whole)
  return naive.build(inputs[1]:size(), function(position)
    local x, y = naive.at(inputs[1], position), inputs[2] and naive.at(inputs[2], position)
    return number(formula(number(x), number(y)))
  end)
end

-- Whether a derivative of the row reads the first input.
local function reads_x(op)
  local text = op.derivative .. " " .. (op.derivative_y or "")
  return text:find("%f[%w_]x%f[^%w_]") ~= nil
end

local function default_set(op) return formulas.attribute_sets(op)[1] end

-- The elements of x in memory that is transposed, and with gaps.
local function scattered(x)
  local rows_, columns = x:size(1), x:size(2)
  local wide = moon.full({ columns, rows_, 3 }, 77, { dtype = x.dtype })
  local view = wide:select(3, 2):t()
  view:copy_(x)
  return view
end

describe("elementwise operators", function()
  it("all have a formula in formulas.lua, and it has no others", function()
    local known = {}
    for _, op in ipairs(rows) do
      known[op.name] = true
      assert.is_function(formulas.float[op.name], op.name)
    end
    for name in pairs(formulas.float) do assert.is_true(known[name], name) end
    assert.is_true(#rows > 70)
  end)

  for _, op in ipairs(rows) do
    describe(op.name, function()
      local sets = formulas.attribute_sets(op)
      local whole_result = op.results[1] == "result" or not op.derivative

      it("agrees with its formula", function()
        for _, set in ipairs(sets) do
          local inputs = draw(op, { 5, 7 })
          naive.close(call(op, inputs, set), expected(op, inputs, set), 1e-11,
            whole_result and "bool" or "float64")
          naive.close(call(op, draw(op, {}), set), expected(op, draw(op, {}), set), 1e-11)
        end
      end)

      it("takes float types within their rounding", function()
        for dtype, tolerance in pairs(rounding) do
          local inputs = draw(op, { 67 }, { dtype = dtype, seed = 3 })
          naive.close(call(op, inputs, sets[#sets]), expected(op, inputs, sets[#sets]), tolerance,
            whole_result and "bool" or dtype)
        end
      end)

      it("takes the integer types it says, and refuses the others with a sentence", function()
        for _, dtype in ipairs { "int64", "int32", "uint8", "bool" } do
          local low = dtype == "bool" and 0 or op.low > 0 and 1 or dtype == "uint8" and 0 or -3
          local inputs = draw(op, { 41 }, { dtype = dtype, whole = true, low = low,
            high = dtype == "bool" and 1 or 3 })
          if takes(op, dtype) then
            local set = op.name == "hardtanh" and {} or sets[#sets]
            local wanted = expected(op, inputs, set, true)
            if dtype == "uint8" then wanted = wanted:remainder(256) end
            naive.close(call(op, inputs, set), wanted, 0, whole_result and "bool" or dtype)
          else
            naive.fails(op.name .. ": " .. dtype .. " tensors are not taken; cast with :to \"",
              call, op, inputs, sets[1])
          end
        end
      end)

      it("reads any layout", function()
        for _, dtype in ipairs { "float64", "float32", "float16" } do
          local inputs = draw(op, { 6, 9 }, { dtype = dtype })
          local strided = {}
          for i, x in ipairs(inputs) do
            strided[i] = scattered(x)
            assert.is_false(strided[i]:is_contiguous())
          end
          naive.close(call(op, strided, default_set(op)), call(op, inputs, default_set(op)),
            rounding[dtype])
        end
        local row = draw(op, { 1, 9 })
        local tall, copied = {}, {}
        for i, x in ipairs(row) do
          tall[i] = x:expand(4, 9)
          copied[i] = tall[i]:clone()
        end
        naive.close(call(op, tall, default_set(op)), call(op, copied, default_set(op)))
      end)

      it("gives an empty result for empty inputs", function()
        local result = call(op, draw(op, { 0, 3 }), default_set(op))
        assert.same({ 0, 3 }, result:size())
      end)

      it("survives every allocation that fails", function()
        local inputs = draw(op, { 3, 4 })
        if op.derivative then
          for _, x in ipairs(inputs) do x.requires_grad = true end
        end
        faults.every_allocation(function()
          local result = call(op, inputs, default_set(op))
          if result.requires_grad then
            result:sum():backward()
            for _, x in ipairs(inputs) do x.grad = nil end
          end
        end)
        for _, x in ipairs(inputs) do x.grad = nil end
      end)
    end)
  end
end)

describe("gradients of", function()
  for _, op in ipairs(rows) do
    if op.derivative then
      it(op.name .. " agree with differences, in any layout", function()
        for _, set in ipairs(formulas.attribute_sets(op)) do
          local function f(...) return call(op, { ... }, set) end
          local inputs = draw(op, { 4, 5 }, { seed = 1 })
          gradcheck.check(f, inputs)
          local strided = {}
          for i, x in ipairs(inputs) do strided[i] = scattered(x) end
          gradcheck.check(f, strided)
          gradcheck.check(f, draw(op, {}, { seed = 2 }))
          gradcheck.second(f, draw(op, { 4, 5 }, { seed = 1 }), { tolerance = 1e-5 })
        end
      end)

      it(op.name .. " of an empty tensor are empty", function()
        local inputs = draw(op, { 2, 0 })
        for _, x in ipairs(inputs) do x.requires_grad = true end
        call(op, inputs, default_set(op)):sum():backward()
        if op.derivative ~= "ZERO" then assert.same({ 2, 0 }, inputs[1].grad:size()) end
      end)
    else
      it(op.name .. " do not exist, and its result is not on the tape", function()
        assert.is_false(op.gradient)
        local inputs = draw(op, { 3 })
        inputs[1].requires_grad = true
        assert.is_false(call(op, inputs, default_set(op)).requires_grad)
      end)
    end
  end
end)

describe("two inputs of", function()
  for _, op in ipairs(rows) do
    if #op.inputs == 2 then
      it(op.name .. " broadcast, and gradients are summed back", function()
        for _, shapes in ipairs { { { 3, 1 }, { 2, 1, 4 } }, { { 4 }, { 3, 4 } }, { {}, { 2, 3 } },
                                  { { 2, 3 }, {} }, { { 1, 3 }, { 0, 3 } } } do
          local x, y = unpack(draw(op, shapes))
          local shape = (x * 0 + y * 0):size()
          local wide_x, wide_y = x:expand(shape):clone(), y:expand(shape):clone()
          naive.close(call(op, { x, y }), expected(op, { wide_x, wide_y }), 1e-11)
          if op.derivative then
            gradcheck.check(function(a, b) return call(op, { a, b }) end, { x, y })
            gradcheck.second(function(a, b) return call(op, { a, b }) end, { x, y },
              { tolerance = 1e-5 })
          end
        end
      end)

      it(op.name .. " may be numbers on either side", function()
        local x = draw(op, { 2, 3 })[1]
        local constant = moon.full({ 2, 3 }, 2, { dtype = "float64" })
        naive.close(moon[op.name](x, 2), expected(op, { x, constant }), 1e-11)
        naive.close(moon[op.name](2, x), expected(op, { constant, x }), 1e-11)
        if op.derivative then
          gradcheck.check(function(a) return moon[op.name](a, 2) end, { x })
          gradcheck.check(function(a) return moon[op.name](2, a) end, { x })
        end
        if takes(op, "int64") then
          local whole = moon[op.name](moon.ones(2, { dtype = "int64" }), 2)
          assert.equal(op.derivative and "int64" or "bool", whole.dtype)
        end
      end)

      it(op.name .. " must agree in type and shape", function()
        local x = draw(op, { 2, 3 })[1]
        naive.fails(op.name .. ": x is float64 but y is float32; cast one, as in " ..
          "y:to \"float64\"", moon[op.name], x, x:float())
        naive.fails(op.name .. ": shapes 2x3 and 2 do not broadcast: sizes 3 and 2 meet in " ..
          "dimension 2", moon[op.name], x, moon.ones(2, { dtype = "float64" }))
        if takes(op, "int32") then
          naive.fails(op.name .. ": y is the fraction 2.5 beside a tensor of int32",
            moon[op.name], moon.ones(2, { dtype = "int32" }), 2.5)
        end
        naive.fails(op.name .. ": y must be a tensor or a number, got string",
          moon[op.name], x, "2")
        naive.fails(op.name .. ": y is missing", moon[op.name], x)
      end)
    end
  end
end)

describe("the form in place of", function()
  for _, op in ipairs(rows) do
    local inplace = op.name .. "_"
    if op.inplace then
      it(op.name .. " writes what the other gives, into any layout", function()
        for _, set in ipairs(formulas.attribute_sets(op)) do
          local inputs = draw(op, { 4, 5 })
          local wanted = call(op, inputs, set)
          local arguments = { inputs[2] }
          for _, value in ipairs(set) do arguments[#arguments + 1] = value end
          for _, target in ipairs { inputs[1]:clone(), scattered(inputs[1]) } do
            assert.equal(target, target[inplace](target, unpack(arguments)))
            naive.close(target, wanted)
          end
        end
      end)

      it(op.name .. " leaves the same gradients, or says that it lost what they need", function()
        local set = default_set(op)
        local function f(x, y)
          local arguments = { y }
          for _, value in ipairs(set) do arguments[#arguments + 1] = value end
          local target = x * 1
          target[inplace](target, unpack(arguments))
          return target * 1
        end
        local inputs = draw(op, { 3, 4 }, { seed = 4 })
        if reads_x(op) then
          naive.fails(("backward: %s needs its x, but %s_ changed it in place after the call; " ..
            "work on a copy there"):format(op.name, op.name), gradcheck.check, f, inputs)
        else
          gradcheck.check(f, inputs)
        end
      end)
    else
      it(op.name .. " does not exist", function()
        assert.is_nil(moon[inplace])
        assert.is_nil(moon.ones(1)[inplace])
      end)
    end
  end

  it("two inputs may read another view of its own memory", function()
    local x = naive.random { 4, 4 }
    local wanted = (x + x:t()):clone()
    x:add_(x:t())
    naive.close(x, wanted)
    local line = moon.arange(1, 6)
    line:narrow(1, 2, 5):add_(line:narrow(1, 1, 5))
    assert.same({ 1, 3, 5, 7, 9, 11 }, line:totable())
    line:mul_(line)
    assert.same({ 1, 9, 25, 49, 81, 121 }, line:totable())
    line:sub_(line[{ { 1 } }])
    assert.same({ 0, 8, 24, 48, 80, 120 }, line:totable())
  end)

  it("two inputs does not grow its target", function()
    naive.fails("add_: the result 2x3 does not fit in place into x 3", function()
      moon.ones(3):add_(moon.ones(2, 3))
    end)
  end)

  it("two inputs refuses a number for a target", function()
    naive.fails("add_: x is written into and must be a tensor, got number",
      moon.add_, 1, moon.ones(2))
  end)
end)

local nan, inf = 0 / 0, math.huge

-- The results of an operator on lists of numbers, as a list.
local function results(name, dtype, ...)
  local inputs = {}
  for i, list in ipairs { ... } do inputs[i] = moon.tensor(list, { dtype = dtype }) end
  return moon[name](unpack(inputs)):totable()
end

local function each_float(f)
  for _, dtype in ipairs { "float32", "float64", "float16", "bfloat16" } do f(dtype) end
end

describe("NaN and infinity", function()
  it("make every comparison with NaN false, but for ne", function()
    each_float(function(dtype)
      for _, name in ipairs { "lt", "le", "gt", "ge", "eq" } do
        assert.same({ false, false, false }, results(name, dtype, { nan, 1, nan }, { 1, nan, nan }))
      end
      assert.same({ true, true, true }, results("ne", dtype, { nan, 1, nan }, { 1, nan, nan }))
      assert.same({ true, false, true }, results("lt", dtype, { -inf, inf, 1 }, { inf, inf, inf }))
      assert.same({ true, true }, results("eq", dtype, { inf, 0 }, { inf, -0.0 }))
    end)
  end)

  it("pass through maximum, minimum, clamp and the activations", function()
    each_float(function(dtype)
      for _, name in ipairs { "maximum", "minimum" } do
        for _, value in ipairs(results(name, dtype, { nan, 1, nan }, { 1, nan, nan })) do
          assert.is_true(value ~= value)
        end
      end
      assert.same({ inf, 1 }, results("maximum", dtype, { inf, -inf }, { 1, 1 }))
      for _, name in ipairs { "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu",
                              "hardtanh", "softshrink", "hardshrink", "softplus", "sigmoid", "tanh",
                              "abs", "floor", "round", "exp", "log", "sqrt", "hardsigmoid",
                              "hardswish", "mish", "softsign", "logsigmoid", "erf" } do
        local value = results(name, dtype, { nan })[1]
        assert.is_true(value ~= value, name .. " of " .. dtype)
      end
      local limited = moon.tensor({ nan, inf, -inf }, { dtype = dtype }):clamp(-1, 1):totable()
      assert.is_true(limited[1] ~= limited[1])
      assert.same({ 1, -1 }, { limited[2], limited[3] })
      assert.same({ inf, 0 }, results("relu", dtype, { inf, -inf }))
    end)
  end)

  it("are told apart by isnan, isinf and isfinite", function()
    each_float(function(dtype)
      local list = { nan, inf, -inf, 0, 1 }
      assert.same({ true, false, false, false, false }, results("isnan", dtype, list))
      assert.same({ false, true, true, false, false }, results("isinf", dtype, list))
      assert.same({ false, false, false, true, true }, results("isfinite", dtype, list))
    end)
  end)

  it("come out where the functions have them", function()
    each_float(function(dtype)
      assert.same({ inf, 0, inf }, results("exp", dtype, { inf, -inf, 1e4 }))
      assert.same({ -inf, inf }, results("log", dtype, { 0, inf }))
      assert.same({ 1, -1 }, results("tanh", dtype, { inf, -inf }))
      assert.same({ 1, 0 }, results("sigmoid", dtype, { inf, -inf }))
      assert.same({ inf, -inf }, results("div", dtype, { 1, -1 }, { 0, 0 }))
      local root = results("sqrt", dtype, { -1 })[1]
      assert.is_true(root ~= root)
    end)
  end)

  it("take no part in gradients at a kink", function()
    local x = moon.tensor({ 0, 0 }, { dtype = "float64", requires_grad = true })
    x:abs():sum():backward()
    assert.same({ 0, 0 }, x.grad:totable())
    x.grad = nil
    x:relu():sum():backward()
    assert.same({ 0, 0 }, x.grad:totable())
    x.grad = nil
    moon.maximum(x, 0):sum():backward()
    assert.same({ 0.5, 0.5 }, x.grad:totable())
  end)
end)

describe("whole numbers", function()
  it("are not divided by zero", function()
    for _, name in ipairs { "div_floor", "remainder", "fmod" } do
      for _, dtype in ipairs { "int64", "int32", "uint8" } do
        local x = moon.ones(3, { dtype = dtype })
        local y = moon.tensor({ 1, 0, 2 }, { dtype = dtype })
        naive.fails(name .. ": division by zero", moon[name], x, y)
        naive.fails(name .. ": division by zero", moon[name], x, 0)
        naive.fails(name .. "_: division by zero", moon[name .. "_"], x, 0)
      end
      assert.is_true(moon[name](moon.empty(0, { dtype = "int64" }), 0):numel() == 0)
    end
    naive.fails("div: int64 tensors are not taken; cast with :to \"float32\", or use div_floor",
      function() return moon.ones(2, { dtype = "int64" }) / 2 end)
  end)

  it("wrap around", function()
    local low = moon.tensor({ -2147483648 }, { dtype = "int32" })
    assert.same({ -2147483648 }, low:neg():totable())
    assert.same({ -2147483648 }, low:abs():totable())
    assert.same({ -2147483648 }, low:div_floor(-1):totable())
    assert.same({ 0 }, low:remainder(-1):totable())
    assert.same({ 0 }, (moon.full({ 1 }, 255, { dtype = "uint8" }) + 1):totable())
    local lowest = moon.full({ 1 }, -2 ^ 62, { dtype = "int64" }) * 2
    assert.is_true(lowest:eq(lowest:div_floor(-1)):item())
  end)

  it("stay exact where a double does not", function()
    local big = moon.full({ 1 }, 2 ^ 53, { dtype = "int64" }) + 1
    assert.equal(1, (big - 2 ^ 53):item())
    assert.is_true(big:gt(2 ^ 53):item())
    assert.is_false(big:eq(2 ^ 53):item())
  end)

  it("take no attribute with a fraction", function()
    local x = moon.tensor({ 1, 2 }, { dtype = "int64" })
    naive.fails("clamp: max is 1.5, no whole number, beside a tensor of int64", x.clamp, x, 0, 1.5)
    naive.fails("threshold: threshold is 0.5", x.threshold, x, 0.5, 1)
    assert.same({ 1, 1 }, x:clamp { max = 1 }:totable())
  end)

  it("take no number beside them that their type cannot hold", function()
    naive.fails("add: y is 300, which a tensor of uint8 cannot hold",
      moon.add, moon.ones(2, { dtype = "uint8" }), 300)
    naive.fails("mul: y is 3000000000, which a tensor of int32 cannot hold",
      moon.mul, moon.ones(2, { dtype = "int32" }), 3e9)
    naive.fails("eq: y is 2, which a tensor of bool cannot hold",
      moon.eq, moon.ones(2, { dtype = "bool" }), 2)
    naive.fails("add: y is inf, which a tensor of int64 cannot hold",
      moon.add, moon.ones(2, { dtype = "int64" }), inf)
  end)
end)
