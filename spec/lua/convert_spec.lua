-- Between Lua values and tensors: tables, bytes, numbers, text, and what a tensor answers when it
-- is asked for its shape, type and memory.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local dtypes = { "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool" }
local inf = math.huge
local whole = rawget(math, "type") and math   -- Lua 5.4 has integers

describe("moon.tensor", function()
  it("takes nested tables of any depth", function()
    local x = moon.tensor { { { 1, 2 }, { 3, 4 } }, { { 5, 6 }, { 7, 8 } } }
    assert.same({ 2, 2, 2 }, x:size())
    assert.same({ { { 1, 2 }, { 3, 4 } }, { { 5, 6 }, { 7, 8 } } }, x:totable())
    assert.equal("float32", x.dtype)
    assert.same({ 1, 1, 1, 1, 1, 1, 1, 1 }, moon.tensor({ { { { { { { { 3 } } } } } } } }):size())
  end)

  it("takes numbers, booleans and empty tables", function()
    assert.same({}, moon.tensor(2.5):size())
    assert.equal(2.5, moon.tensor(2.5):item())
    assert.same({ 0 }, moon.tensor({}):size())
    assert.same({ 2, 0 }, moon.tensor({ {}, {} }):size())
    assert.equal("bool", moon.tensor(true).dtype)
    assert.is_true(moon.tensor(true):item())
    assert.same({ true, false }, moon.tensor({ true, false }):totable())
    assert.same({ 1, 0 }, moon.tensor({ true, false }, { dtype = "float32" }):totable())
    assert.same({ true, false, true }, moon.tensor({ 1, 0, -3.5 }, { dtype = "bool" }):totable())
  end)

  it("takes every type, by name or by moon's field of that name", function()
    for _, dtype in ipairs(dtypes) do
      assert.equal(dtype, moon[dtype])
      assert.equal(dtype, moon.tensor({ 1, 0 }, { dtype = dtype }).dtype)
      assert.equal(dtype, moon.tensor({ 1, 0 }, dtype).dtype)
      assert.equal(dtype, moon.tensor({}, { dtype = dtype }).dtype)
    end
  end)

  it("rounds once, to nearest, into the float types", function()
    assert.equal(16777216, moon.tensor(16777217):item())
    assert.equal(2049 - 1, moon.tensor(2049, "float16"):item())
    assert.equal(inf, moon.tensor(70000, "float16"):item())
    assert.equal(256, moon.tensor(257, "bfloat16"):item())
    -- 1 + 2^-11 + 2^-30 lies above the middle; through float32 it would be rounded down first.
    assert.equal(1 + 2 ^ -10, moon.tensor(1 + 2 ^ -11 + 2 ^ -30, "float16"):item())
    local nan = moon.tensor({ 0 / 0 }, "float16")[1]
    assert.is_true(nan ~= nan)
  end)

  it("refuses what a type cannot hold", function()
    naive.fails("tensor: element 2 is 1.5, which type int64 cannot hold",
      moon.tensor, { 1, 1.5 }, { dtype = "int64" })
    naive.fails("tensor: element 1 is 256, which type uint8 cannot hold",
      moon.tensor, { 256 }, "uint8")
    naive.fails("which type int32 cannot hold", moon.tensor, { { 2147483648 } }, "int32")
    naive.fails("which type int64 cannot hold", moon.tensor, { 2 ^ 63 }, "int64")
    naive.fails("which type uint8 cannot hold", moon.tensor, -1, "uint8")
    naive.fails("which type int64 cannot hold", moon.tensor, { 0 / 0 }, "int64")
    local ends = { -2 ^ 31, 2 ^ 31 - 1 }
    assert.same(ends, moon.tensor(ends, "int32"):totable())
  end)

  it("answers mistakes with a sentence", function()
    naive.fails("tensor: all tables of dimension 2 must have 2 members like the first, one has 1",
      moon.tensor, { { 1, 2 }, { 3 } })
    naive.fails("tensor: all tables of dimension 2 must have 2 members like the first, one is " ..
      "no table", moon.tensor, { { 1, 2 }, 3 })
    naive.fails("tensor: element 2 must be a number, got table", moon.tensor, { 1, { 2 } })
    naive.fails("tensor: element 2 must be a number, got string", moon.tensor, { 1, "2" })
    naive.fails("tensor: element 1 must be a number, got string", moon.tensor, { { "x" } })
    naive.fails("tensor: tables nest deeper than 8 dimensions",
      moon.tensor, { { { { { { { { { 1 } } } } } } } } })
    naive.fails("tensor: expected a number or a table of numbers, got string", moon.tensor, "1")
    naive.fails("tensor: expected a number or a table of numbers, got nil", moon.tensor)
    naive.fails('tensor: there is no dtype "float"; the types are float32, float64, float16, ' ..
      "bfloat16, int64, int32, uint8, bool", moon.tensor, 1, "float")
    naive.fails('tensor: there is no option "type"; the options are dtype, requires_grad',
      moon.tensor, 1, { type = "int64" })
    naive.fails("tensor: dtype must be a name such as \"float32\", got number",
      moon.tensor, 1, { dtype = 3 })
    local endless = {}
    endless[1] = endless
    naive.fails("tensor: tables nest deeper than 8 dimensions", moon.tensor, endless)
  end)

  it("survives every allocation that fails", function()
    faults.every_allocation(function()
      return moon.tensor({ { 1, 2 } }, { requires_grad = true })
    end)
    faults.every_allocation(function() return moon.from_bytes("abcd", "uint8", { 2, 2 }) end)
    local x = moon.ones(2, 3)
    faults.every_allocation(function() return x:t():tobytes() end)
    faults.every_allocation(function() return x:to("float64") end)
    faults.every_allocation(function() return tostring(x), x:totable(), x:size() end)
  end)
end)

describe("totable and item", function()
  it("give back what tensor took, in every type and layout", function()
    for _, dtype in ipairs(dtypes) do
      local flag = dtype == "bool"
      local list = flag and { { true, false }, { false, false } } or { { 1, 2 }, { 0, 4 } }
      local x = moon.tensor(list, { dtype = dtype })
      assert.same(list, x:totable())
      assert.same({ { list[1][1], list[2][1] }, { list[1][2], list[2][2] } }, x:t():totable())
      assert.equal(list[2][2], x[{ { 2 }, { 2 } }]:item())
    end
    assert.equal(3, moon.tensor(3):totable())
    assert.same({}, moon.empty(0):totable())
    assert.same({ {}, {} }, moon.empty(2, 0):totable())
    assert.same({ { 5, 5, 5 } }, moon.full({ 1, 1 }, 5):expand(1, 3):totable())
  end)

  it("hold whole numbers exactly, or refuse", function()
    local limit = moon.tensor({ 2 ^ 53, -2 ^ 53 }, "int64")
    assert.same({ 2 ^ 53, -2 ^ 53 }, limit:totable())
    local beyond = limit + moon.tensor({ 1, -1 }, "int64")
    if whole then
      assert.equal(whole.tointeger(2 ^ 53) + 1, beyond[1])
      assert.equal(whole.mininteger, moon.tensor(whole.mininteger, "int64"):item())
      assert.equal(whole.maxinteger, (moon.zeros(1, { dtype = "int64" }) + whole.maxinteger)[1])
      local x = moon.zeros(1, { dtype = "int64" })
      x[1] = whole.maxinteger
      assert.equal("integer", whole.type(x[1]))
      assert.equal(whole.maxinteger, x:item())
    else
      local sentence = "9007199254740993 does not fit a Lua number exactly (limit 2^53); cast " ..
        "to float64 first"
      naive.fails(sentence, function() return beyond[1] end)
      naive.fails(sentence, beyond.totable, beyond)
      naive.fails("-" .. sentence, function() return beyond[{ { 2 } }]:item() end)
    end
    assert.equal(2 ^ 53, beyond:double()[1])
  end)

  it("item needs one element", function()
    naive.fails("item: only a tensor with one element is a number, this one is 2x3",
      function() return moon.ones(2, 3):item() end)
    naive.fails("item: only a tensor with one element is a number, this one is 0",
      function() return moon.ones(0):item() end)
    naive.fails("item: x must be a tensor, got nothing; a method is called with a colon, " ..
      "x:item(...)", moon.ones(1).item)
  end)
end)

describe("bytes", function()
  it("go out row by row, little-endian, and come back", function()
    for _, dtype in ipairs(dtypes) do
      local x = moon.tensor({ { 1, 0, 1 }, { 0, 0, 1 } }, { dtype = dtype })
      naive.close(moon.from_bytes(x:tobytes(), dtype, { 2, 3 }), x, 0, dtype)
      naive.close(moon.from_bytes(x:t():tobytes(), dtype, { 3, 2 }), x:t(), 0, dtype)
    end
    assert.equal("\1\0\0\0\255\255\255\255", moon.tensor({ 1, -1 }, "int32"):tobytes())
    assert.equal("\0\0\128\63", moon.tensor(1):tobytes())
    assert.equal("", moon.empty(0):tobytes())
  end)

  it("take a shape as a table, as numbers, or none", function()
    assert.same({ 4 }, moon.from_bytes("abcd", "uint8"):size())
    assert.same({ 2, 2 }, moon.from_bytes("abcd", "uint8", 2, 2):size())
    assert.same({ { 97, 98 }, { 99, 100 } }, moon.from_bytes("abcd", "uint8", { 2, 2 }):totable())
    assert.same({ 0, 7 }, moon.from_bytes("", "float32", { 0, 7 }):size())
    assert.same({}, moon.from_bytes("\5", "uint8", {}):size())
  end)

  it("make proper booleans", function()
    local flags = moon.from_bytes("\0\1\2\255", "bool")
    assert.same({ false, true, true, true }, flags:totable())
    assert.equal(3, flags:sum():item())
    assert.equal("\0\1\1\1", flags:tobytes())
  end)

  it("must be as many as the shape needs", function()
    naive.fails("from_bytes: 4 bytes are not float32 elements of shape 2",
      moon.from_bytes, "abcd", "float32", { 2 })
    naive.fails("from_bytes: 5 bytes are not float32 elements of shape 1", moon.from_bytes, "abcde",
      "float32")
    naive.fails("from_bytes: 0 bytes are not", moon.from_bytes, "", "uint8", { 2 ^ 40 })
    naive.fails("a shape must not be negative, got -1", moon.from_bytes, "a", "uint8", { -1 })
    naive.fails("has more elements than memory can hold",
      moon.from_bytes, "a", "uint8", { 2 ^ 40, 2 ^ 40 })
    naive.fails("from_bytes: size 1 must be a whole number, got string",
      moon.from_bytes, "a", "uint8", { "x" })
    naive.fails('from_bytes: there is no dtype "byte"', moon.from_bytes, "a", "byte")
    naive.fails("string expected", moon.from_bytes, {}, "uint8")
  end)
end)

describe("to", function()
  it("casts by name, by tensor and by short methods", function()
    local x = moon.tensor { 1.5, -2.5 }
    assert.equal("int64", x:to("int64").dtype)
    assert.equal("float64", x:to(moon.ones(1, { dtype = "float64" })).dtype)
    for method, dtype in pairs { float = "float32", double = "float64", half = "float16",
                                 bfloat16 = "bfloat16", long = "int64", int = "int32",
                                 byte = "uint8", bool = "bool" } do
      local result = x[method](x)
      assert.equal(dtype, result.dtype)
      assert.same({ 2 }, result:size())
    end
  end)

  it("gives the tensor itself where nothing changes", function()
    local x = moon.ones(2)
    assert.equal(x, x:to("float32"))
    assert.equal(x, x:to("cpu"))
    assert.equal(x, x:float())
    assert.equal(x, x:cpu())
  end)

  it("answers mistakes with a sentence", function()
    local x = moon.ones(2)
    naive.fails('to: expected a dtype such as "float64", a device such as "cpu" or a tensor, ' ..
      "got number", x.to, x, 64)
    naive.fails("floaty", x.to, x, "floaty")
    naive.fails("cuda", x.to, x, "cuda:99")
  end)
end)

describe("a tensor answers", function()
  it("for its shape, strides and number of elements", function()
    local x = moon.zeros(2, 3, 4)
    assert.same({ 2, 3, 4 }, x:size())
    assert.same({ 2, 3, 4 }, x.shape)
    assert.same({ 12, 4, 1 }, x:stride())
    assert.same({ 4, 3, 24 }, { x:size(-1), x:dim(), x:numel() })
    assert.same({ 2, 12 }, { x:size(1), x:stride(1) })
    assert.is_true(x:is_contiguous())
    assert.is_false(x:transpose(1, 2):is_contiguous())
    assert.equal(4, x[{ 1, 2 }]:storage_offset())
    assert.same({ 0, 1 }, { moon.tensor(1):dim(), moon.tensor(1):numel() })
  end)

  it("with tables of its own", function()
    local x = moon.zeros(2, 3)
    x.shape[1] = 99
    x:size()[2] = 99
    assert.same({ 2, 3 }, x.shape)
  end)

  it("for its type and device", function()
    assert.same({ "float32", "cpu" }, { moon.zeros(1).dtype, moon.zeros(1).device })
    assert.is_true(moon.is_tensor(moon.zeros(1)))
    for _, other in ipairs { 1, "x", {}, print, io.stdout, coroutine.create(function() end) } do
      assert.is_false(moon.is_tensor(other))
    end
    assert.is_false(moon.is_tensor(nil))
  end)

  it("to mistakes with a sentence", function()
    local x = moon.zeros(2, 3)
    naive.fails("size: dimension 3 does not exist in a tensor of 2 dimensions", x.size, x, 3)
    naive.fails("size: dim must be a whole number from 1, or from -1 at the end", x.size, x, 0)
    naive.fails("stride: dim must be a whole number", x.stride, x, "1")
    naive.fails("size: a 0-d tensor has no dimensions",
      function() return moon.tensor(1):size(1) end)
    naive.fails("size: x must be a tensor, got nothing; a method is called with a colon", x.size)
    naive.fails("numel: x must be a tensor, got number", x.numel, 3)
    assert.is_false(getmetatable(x))
  end)
end)

describe("x:data()", function()
  it("is a pointer that keeps the tensor alive and counts as a write", function()
    local x = moon.tensor { 1, 2, 3 }
    if not rawget(_G, "jit") then
      naive.fails("data: raw pointers need LuaJIT's ffi", x.data, x)
      return
    end
    local p = x:data()
    p[1] = 7
    assert.equal(7, x[2])
    x = nil
    collectgarbage()
    collectgarbage()
    assert.equal(3, p[2])
    local y = moon.tensor({ 1 }, { requires_grad = true }) * 2
    local z = y * y
    y:detach():data()
    naive.fails("backward: mul needs its x, but a write from outside changed it",
      z.backward, z)
    assert.is_nil(x)
  end)
end)

describe("tostring", function()
  -- The text without the last line, which is checked to say type and shape.
  local function body(x)
    local text, last = tostring(x):match("^(.*)\n(%[[^\n]*%])$")
    local shape = table.concat(x:size(), "x")
    assert.equal(("[%s tensor of %s]"):format(x.dtype, shape == "" and "0-d" or shape), last)
    return text
  end

  it("aligns columns", function()
    assert.equal("[[ 1.0000   2.5000]\n [-3.0000  10.0000]]",
      body(moon.tensor { { 1, 2.5 }, { -3, 10 } }))
    assert.equal("[  1  200   -3]", body(moon.tensor({ 1, 200, -3 }, "int32")))
    assert.equal("[1  2  3]", body(moon.tensor { 1, 2, 3 }))
    assert.equal("[ true  false]", body(moon.tensor({ true, false }, "bool")))
    assert.equal("[[1  3]\n [2  4]]", body(moon.tensor({ { 1, 2 }, { 3, 4 } }):t()))
  end)

  it("puts a blank line between matrices", function()
    assert.equal("[[[0  0]\n  [0  0]]\n\n [[0  0]\n  [0  0]]]", body(moon.zeros(2, 2, 2)))
  end)

  it("pulls out a common factor, or shows exponents where that would lose digits", function()
    assert.equal("1e-05 *\n[1.0000  2.5000]", body(moon.tensor({ 1e-5, 2.5e-5 }, "float64")))
    assert.equal("1e+10 *\n[1.0000  2.0000]", body(moon.tensor({ 1e10, 2e10 }, "float64")))
    assert.equal("[1.0000e-09  1.0000e+09]", body(moon.tensor({ 1e-9, 1e9 }, "float64")))
    assert.equal("[1.2346e+05  2.0000e+00]", body(moon.tensor({ 123456.5, 2 }, "float64")))
  end)

  it("shows NaN and infinities", function()
    assert.equal("[   nan     inf    -inf  1.5000]",
      body(moon.tensor { 0 / 0, 1 / 0, -1 / 0, 1.5 }))
    assert.equal("[nan  inf]", body(moon.tensor({ 0 / 0, 1 / 0 }, "float16")))
  end)

  it("shows one number and no number", function()
    assert.equal("3", body(moon.tensor(3)))
    assert.equal("true", body(moon.tensor(true)))
    assert.equal("[]", body(moon.empty(0)))
    assert.equal("[[]\n []]", body(moon.empty(2, 0)))
    assert.equal("[]", body(moon.empty(0, 2)))
  end)

  it("leaves out the middle of what is long", function()
    assert.equal("[   1     2     3  ...  1998  1999  2000]", body(moon.arange(1, 2000)))
    local wide = body(moon.zeros(40, 40))
    assert.equal(7, select(2, wide:gsub("[^\n]+", "")))
    assert.matches("^%[%[0  0  0  %.%.%.  0  0  0%]\n", wide)
    assert.matches("\n %.%.%.\n", wide)
    assert.is_nil(body(moon.zeros(1000)):find("...", 1, true))
    assert.is_true(#tostring(moon.zeros(2 ^ 10, 2 ^ 10):expand(2, 2 ^ 10, 2 ^ 10)) < 2000)
  end)

  it("needs a few elements of a huge tensor only", function()
    local huge = moon.ones(1):expand(2 ^ 30)
    assert.equal("[1  1  1  ...  1  1  1]", body(huge))
  end)
end)
