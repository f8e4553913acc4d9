-- How calls are read: positions, options in a trailing table, lists, choices, and the sentences
-- that answer mistakes, which name the line of the user.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local x, image, kernel

before_each(function()
  x = moon.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  image, kernel = moon.ones(1, 1, 5, 5), moon.ones(1, 1, 3, 3)
end)

describe("options", function()
  it("come last in a table, by name", function()
    assert.same({ 1, 1, 7, 7 }, moon.conv2d(image, kernel, nil, { padding = 2 }):size())
    assert.same({ 1, 1, 5, 5 }, image:conv2d(kernel, { padding = 1 }):size())
    assert.same({ 1, 1, 3, 3 }, image:conv2d(kernel, { padding = 1, stride = 2 }):size())
    assert.same({ 2, 1 }, x:sum({ dim = 2, keepdim = true }):size())
    assert.same({ 2, 1 }, x:sum(2, { keepdim = true }):size())
    assert.same({ 2, 1 }, x:sum(2, true):size())
  end)

  it("may name inputs too", function()
    local bias = moon.tensor { 7 }
    assert.equal(16, moon.conv2d(image, kernel, { bias = bias })[{ 1, 1, 1, 1 }])
    assert.equal(9, moon.conv2d { input = image, weight = kernel }[{ 1, 1, 1, 1 }])
    assert.same({ 4, 3 }, moon.cat({ tensors = { x, x }, dim = 1 }):size())
    assert.same({ 2, 6 }, moon.cat { dim = 2, tensors = { x, x } }:size())
  end)

  it("may be an empty table", function()
    assert.equal(21, x:sum({}):item())
    assert.same({ 1, 1, 3, 3 }, image:conv2d(kernel, {}):size())
    assert.same({ 1 }, moon.zeros(1, {}):size())
  end)

  it("that do not exist are answered with those that do", function()
    naive.fails('conv2d: there is no option "paddding"; the options are bias, stride, padding, ' ..
      "dilation, groups", image.conv2d, image, kernel, { paddding = 1 })
    naive.fails('sum: there is no option "axis"; the options are dim, keepdim',
      x.sum, x, { axis = 1 })
    naive.fails('sum: there is no option "axis"; the options are keepdim',
      x.sum, x, 1, { axis = 1 })
    naive.fails('exp: there is no option "fast"; the options are none', x.exp, x, { fast = true })
    naive.fails('zeros: there is no option "type"', moon.zeros, 2, { type = "int64" })
    naive.fails("options", x.add_, x, 1, { alpha = 2 })
  end)

  it("are not given twice", function()
    naive.fails("sum: dim is given twice, by position and as an option", x.sum, x, 1, { dim = 2 })
    naive.fails("conv2d: weight is given twice", image.conv2d, image, kernel, { weight = kernel })
  end)

  it("have names, not numbers", function()
    naive.fails("conv2d: options are given by name, as in {groups = ...}",
      image.conv2d, image, kernel, nil, { 1, padding = 2 })
  end)

  it("come last", function()
    naive.fails("sum: dim must be a list of numbers, got a table of options; options come last",
      x.sum, x, { keepdim = true }, 1)
  end)

  it("have types", function()
    naive.fails("sum: keepdim must be true or false, got number", x.sum, x, { keepdim = 1 })
    naive.fails("conv2d: stride must be a whole number, got string",
      image.conv2d, image, kernel, { stride = "same" })
    naive.fails("conv2d: padding must be a whole number, got number",
      image.conv2d, image, kernel, { padding = 1.5 })
    naive.fails("conv2d: stride must be a number or a list of two, got 3",
      image.conv2d, image, kernel, { stride = { 1, 2, 3 } })
    naive.fails("leaky_relu: negative_slope must be a number, got boolean",
      x.leaky_relu, x, { negative_slope = true })
    naive.fails("conv2d: bias must be a tensor, got number", image.conv2d, image, kernel, 3)
  end)
end)

describe("pairs", function()
  it("are one number for both, a list of two, or a list of one", function()
    for _, padding in ipairs { 1, { 1, 1 }, { 1 } } do
      local padded = image:conv2d(kernel, { padding = padding })
      assert.same({ 1, 1, 5, 5 }, padded:size())
    end
    assert.same({ 1, 1, 3, 7 }, image:conv2d(kernel, { padding = { 0, 2 } }):size())
  end)
end)

describe("padding", function()
  it("is a number, a list of numbers or sides, or a word", function()
    for size, padding in pairs {
      ["3x3"] = 0, ["5x5"] = 1, ["7x7"] = "full", ["4x4"] = { { 1, 0 } },
      ["4x6"] = { { 0, 1 }, { 2, 1 } }, ["6x3"] = { { 1, 2 }, 0 },
    } do
      local y = image:conv2d(kernel, { padding = padding })
      assert.equal(size, ("%dx%d"):format(y:size(3), y:size(4)))
    end
  end)

  it("comes by position too, and is described with its dimensions", function()
    assert.same({ 1, 1, 5, 5 }, image:conv2d(kernel, nil, 1, "same"):size())
    for _, op in ipairs(moon.operators()) do
      if op.name:match "^conv%dd$" then
        local dims = op.name:match "%d"
        assert.equal("int[" .. dims .. "]", op.attributes[1].type)
        assert.same({ name = "padding", type = "pads[" .. dims .. "]", optional = true,
                      default = "0" }, op.attributes[2])
      end
    end
  end)
end)

describe("dimensions", function()
  it("are a number, numbers, a list, or left out", function()
    assert.equal(21, x:sum():item())
    assert.same({ 5, 7, 9 }, x:sum(1):totable())
    assert.same({ 6, 15 }, x:sum(-1):totable())
    assert.equal(21, x:sum({ 1, 2 }):item())
    assert.equal(21, x:sum({ 2, 1 }):item())
    assert.same({ 1, 3 }, x:sum(1, true):size())
    assert.equal(21, x:sum(nil):item())
    assert.same({ 1, 1 }, x:sum(nil, true):size())
    assert.same({ 3, 2 }, x:permute(2, 1):size())
    assert.same({ 3, 2 }, x:permute({ 2, 1 }):size())
  end)

  it("count from one, or from minus one at the end", function()
    naive.fails("sum: dim counts from 1, or from -1 at the end; got 0", x.sum, x, 0)
    naive.fails("sum: dim counts from 1, or from -1 at the end; got 0", x.sum, x, { 1, 0 })
    naive.fails("sum: dimension 3 does not exist in a tensor of 2 dimensions", x.sum, x, 3)
    naive.fails("sum: dimension -3 does not exist", x.sum, x, -3)
    naive.fails("sum: dim must be a whole number, got string", x.sum, x, "1")
    naive.fails("sum: dim must be a whole number, got number", x.sum, x, 1.5)
    naive.fails("softmax: dim must be a whole number, got table", x.softmax, x, { 1 })
  end)

  it("are at most eight", function()
    naive.fails("permute: order takes at most 8 numbers", x.permute, x, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    naive.fails("permute: order has 9 numbers, at most 8 are taken",
      x.permute, x, { 1, 2, 3, 4, 5, 6, 7, 8, 9 })
    naive.fails("zeros: shape", moon.zeros, 1, 1, 1, 1, 1, 1, 1, 1, 1)
  end)
end)

describe("shapes", function()
  it("are numbers or a list", function()
    assert.same({ 3, 2 }, x:view(3, 2):size())
    assert.same({ 3, 2 }, x:view({ 3, 2 }):size())
    assert.same({ 2, 3 }, moon.zeros(2, 3):size())
    assert.same({ 2, 3 }, moon.zeros({ 2, 3 }):size())
    assert.same({ 2, 3 }, moon.zeros(2, 3, { dtype = "int64" }):size())
    assert.same({}, moon.zeros({}):size())
    assert.same({ 2, 3 }, moon.full({ 2, 3 }, 7):size())
  end)

  it("have whole numbers that are not negative", function()
    naive.fails("zeros: a shape must not be negative, got -1", moon.zeros, -1)
    naive.fails("zeros: shape must be a whole number, got number", moon.zeros, 2.5)
    naive.fails("zeros: shape must be a whole number, got number", moon.zeros, 0 / 0)
    naive.fails("zeros: shape must be a whole number, got number", moon.zeros, math.huge)
    naive.fails("zeros: shape must be a whole number, got string", moon.zeros, { "2" })
    naive.fails("zeros: shape is missing", moon.zeros)
    naive.fails("more elements than memory can hold", moon.zeros, 2 ^ 40, 2 ^ 40)
  end)
end)

describe("choices", function()
  it("are strings from a list", function()
    local y = x:exp()
    assert.same({}, moon.mse_loss(x, y):size())
    assert.same({ 2, 3 }, moon.mse_loss(x, y, { reduction = "none" }):size())
    naive.fails('mse_loss: reduction must be one of "mean", "sum", "none", got "avg"',
      moon.mse_loss, x, y, { reduction = "avg" })
    naive.fails("mse_loss: reduction must be a string, got number",
      moon.mse_loss, x, y, { reduction = 1 })
  end)
end)

describe("types", function()
  it("are names", function()
    assert.equal("int64", moon.zeros(1, { dtype = "int64" }).dtype)
    assert.equal("int64", moon.zeros(1, { dtype = moon.int64 }).dtype)
    naive.fails('zeros: there is no dtype "long"; the types are float32, float64, float16, ' ..
      "bfloat16, int64, int32, uint8, bool", moon.zeros, 1, { dtype = "long" })
    naive.fails('zeros: dtype must be a name such as "float32", got number',
      moon.zeros, 1, { dtype = 1 })
    naive.fails('zeros: device must be a name such as "cpu"', moon.zeros, 1, { device = 1 })
  end)
end)

describe("lists of tensors", function()
  it("hold tensors only", function()
    assert.same({ 4, 3 }, moon.cat({ x, x }, 1):size())
    naive.fails("cat: tensors must be a list of tensors, got number", moon.cat, 1)
    naive.fails("cat: member 2 of tensors must be a tensor, got number", moon.cat, { x, 2 })
    naive.fails("cat: ", moon.cat, {})
    naive.fails("cat: member 2 of tensors must be a tensor, got table", moon.cat, { x, {} })
  end)
end)

describe("a method called with a dot", function()
  it("is recognised", function()
    local hint = "a method is called with a colon, x:"
    naive.fails("sum: input must be a tensor, got nothing; " .. hint .. "sum(...)", x.sum)
    naive.fails("sum: input must be a tensor, got number; " .. hint .. "sum(...)", x.sum, 1)
    naive.fails("view: input must be a tensor, got number; " .. hint .. "view(...)", x.view, 3, 2)
    naive.fails("matmul: b is missing; the call is matmul(a: Tensor, b: Tensor) -> out, or as a " ..
      "method, with a colon, x:matmul(...)", x.matmul, x)
    naive.fails("exp_: x must be a tensor, got nothing; " .. hint .. "exp_(...)", x.exp_)
    for _, name in ipairs { "backward", "detach", "size", "numel", "item", "totable", "to", "dim",
                            "requires_grad_", "is_contiguous", "tobytes", "stride" } do
      naive.fails(name .. ": ", x[name])
      naive.fails(hint .. name .. "(...)", x[name])
    end
  end)
end)

describe("arguments", function()
  it("are not too many", function()
    naive.fails("exp: too many arguments; the call is exp(x: Tensor) -> y", x.exp, x, 1)
    naive.fails("sum: too many arguments; the call is sum(input: Tensor, dim: dims, keepdim: " ..
      "bool = false) -> out", x.sum, x, 1, true, 3)
    naive.fails("add: too many arguments", x.add, x, 1, 2)
    naive.fails("t: too many arguments", x.t, x, { 1 })
  end)

  it("are not too few", function()
    naive.fails("matmul: b is missing; the call is matmul(a: Tensor, b: Tensor) -> out",
      moon.matmul, x)
    naive.fails("narrow: start is missing; the call is narrow(", x.narrow, x, 1)
    naive.fails("threshold: threshold is missing", x.threshold, x)
  end)

  it("may be nil where they are optional, and nowhere else", function()
    assert.same({ 1, 1, 3, 3 }, moon.conv2d(image, kernel, nil, nil, nil):size())
    naive.fails("conv2d: weight must be given, got nil", moon.conv2d, image, nil)
    naive.fails("add: y must be given, got nil", x.add, x, nil)
  end)

  it("are not of a wrong kind", function()
    for _, wrong in ipairs { "text", true, print, io.stdout, coroutine.create(function() end) } do
      naive.fails("exp: x must be a tensor, got " .. type(wrong), moon.exp, wrong)
      naive.fails("matmul: b must be a tensor, got " .. type(wrong), moon.matmul, x, wrong)
      naive.fails("add: y must be a tensor or a number, got " .. type(wrong), moon.add, x, wrong)
    end
    naive.fails("add: y must be a tensor or a number, got table", function() return x + {} end)
    naive.fails("mul: x must be a tensor or a number, got string", function() return "2" * x end)
  end)
end)

describe("arithmetic signs", function()
  it("are operators", function()
    local a, b = moon.tensor { 5, -7 }, moon.tensor { 3, 3 }
    assert.same({ 8, -4 }, (a + b):totable())
    assert.same({ 2, -10 }, (a - b):totable())
    assert.same({ 15, -21 }, (a * b):totable())
    assert.same({ 2, 2 }, (moon.tensor { 4, 6 } / moon.tensor { 2, 3 }):totable())
    assert.same({ 25, 49 }, (a ^ 2):totable())
    assert.same({ 2, 2 }, (a % b):totable())
    assert.same({ -5, 7 }, (-a):totable())
    assert.same({ 6, -6 }, (1 + a):totable())
    assert.same({ 5, 17 }, (10 - a):totable())
    assert.same({ 0.5, 0.25 }, (1 / moon.tensor { 2, 4 }):totable())
    assert.same({ 8, 16 }, (2 ^ moon.tensor { 3, 4 }):totable())
    assert.is_false(a == moon.tensor { 5, -7 })
    assert.is_true(rawequal(a, a))
  end)
end)

describe("an error", function()
  it("names the user's file and line", function()
    local function fail() x:view(7) end
    local line = debug.getinfo(fail, "S").linedefined
    local _, message = pcall(fail)
    assert.matches("arguments_spec%.lua:" .. line .. ": view: 6 elements do not fill", message)
  end)

  it("names the user's line also where the library's Lua stands between", function()
    local nn = moon.nn
    local function fail() nn.Linear(3, 2)(moon.ones(1, 4)):sum() end
    local line = debug.getinfo(fail, "S").linedefined
    local _, message = pcall(fail)
    assert.matches("arguments_spec%.lua:" .. line .. ": ", message)
  end)

  it("is short, whatever the shapes", function()
    local n = 2 ^ 50
    local _, message = pcall(x.view, x, n, n, n, n, n, n, n, n)
    assert.is_true(#message < 300)
  end)
end)

describe("moon.operators()", function()
  it("describes every operator", function()
    local seen = {}
    for _, op in ipairs(moon.operators()) do
      assert.is_nil(seen[op.name])
      seen[op.name] = op
      assert.equal("string", type(op.schema))
      assert.is_true(#op.doc > 3, op.name .. " has no documentation")
      assert.matches("%.$", op.doc)
      for _, list in ipairs { op.inputs, op.attributes } do
        for _, param in ipairs(list) do
          assert.is_string(param.name)
          assert.is_string(param.type)
          assert.is_boolean(param.optional)
        end
      end
      if not op.hidden then
        local name = op.only_inplace and op.name .. "_" or op.name
        assert.is_function(op.method and moon.methods[name] or moon[name], op.name)
      end
    end
    local conv2d = seen.conv2d
    assert.same({ "input", "weight", "bias" }, { conv2d.inputs[1].name, conv2d.inputs[2].name,
                                                 conv2d.inputs[3].name })
    assert.same({ name = "stride", type = "int[2]", optional = true, default = "1" },
      conv2d.attributes[1])
    assert.same({ "mean", "sum", "none" }, seen.mse_loss.attributes[1].choices)
    assert.is_true(conv2d.gradient)
    assert.is_false(seen.argmax.gradient)
  end)

  it("has help for each, and a sentence for what does not exist", function()
    assert.matches("conv2d%(input: Tensor", moon.help("conv2d"))
    assert.matches("relu", moon.help(moon.relu))
    assert.matches("in place: fill_", moon.help("fill_"))
    naive.fails("help: there is no operator konv; moon.operators() lists them", moon.help, "konv")
  end)
end)
