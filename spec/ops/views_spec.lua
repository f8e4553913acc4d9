-- View operators: which elements they show and whose memory that is, gradients, chains of them,
-- zero sizes and sentences; and the operators that copy and fill.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

-- Per operator: input shape, the call, the result's shape, where each result position comes from,
-- and whether it must be a copy. `p` is a position of the result; use it before the next one.
local function flat(shape, p)
  local index = 0
  for i = 1, #shape do index = index * shape[i] + p[i] - 1 end
  return index
end

local function unflat(shape, index)
  local p = {}
  for i = #shape, 1, -1 do
    p[i] = index % shape[i] + 1
    index = math.floor(index / shape[i])
  end
  return p
end

local function reshaped(from, to)
  return function(p) return unflat(from, flat(to, p)) end
end

local cases = {
  view = {
    { { 2, 3, 4 }, function(x) return x:view(6, 4) end, { 6, 4 }, reshaped({ 2, 3, 4 }, { 6, 4 }) },
    { { 2, 3, 4 }, function(x) return x:view { 4, -1 } end, { 4, 6 },
      reshaped({ 2, 3, 4 }, { 4, 6 }) },
    { { 1, 1 }, function(x) return x:view {} end, {}, function() return { 1, 1 } end },
    { {}, function(x) return x:view(1, 1) end, { 1, 1 }, function() return {} end },
    { { 0, 3 }, function(x) return x:view(3, 0, 5) end, { 3, 0, 5 } },
  },
  reshape = {
    { { 2, 6 }, function(x) return x:reshape(3, -1) end, { 3, 4 }, reshaped({ 2, 6 }, { 3, 4 }) },
    { { 2, 6 }, function(x) return x:t():reshape(12) end, { 12 }, function(p)
      return { (p[1] - 1) % 2 + 1, math.floor((p[1] - 1) / 2) + 1 }
    end, copies = true },
    { { 0 }, function(x) return x:reshape(0, 2) end, { 0, 2 } },
  },
  flatten = {
    { { 2, 3, 4 }, function(x) return x:flatten() end, { 24 }, reshaped({ 2, 3, 4 }, { 24 }) },
    { { 2, 3, 4 }, function(x) return x:flatten(2) end, { 2, 12 },
      reshaped({ 2, 3, 4 }, { 2, 12 }) },
    { { 2, 3, 4 }, function(x) return x:flatten(1, 2) end, { 6, 4 },
      reshaped({ 2, 3, 4 }, { 6, 4 }) },
    { { 2, 3, 4 }, function(x) return x:flatten(-2, -1) end, { 2, 12 },
      reshaped({ 2, 3, 4 }, { 2, 12 }) },
    { {}, function(x) return x:flatten() end, { 1 }, function() return {} end },
    { { 2, 3 }, function(x) return x:t():flatten() end, { 6 }, function(p)
      return { (p[1] - 1) % 2 + 1, math.floor((p[1] - 1) / 2) + 1 }
    end, copies = true },
    { { 2, 0, 4 }, function(x) return x:flatten(2) end, { 2, 0 } },
  },
  narrow = {
    { { 4, 5 }, function(x) return x:narrow(2, 3, 2) end, { 4, 2 },
      function(p) return { p[1], p[2] + 2 } end },
    { { 4, 5 }, function(x) return x:narrow(-2, -3, 2) end, { 2, 5 },
      function(p) return { p[1] + 1, p[2] } end },
    { { 4, 5 }, function(x) return x:narrow(1, 5, 0) end, { 0, 5 } },
  },
  select = {
    { { 4, 5 }, function(x) return x:select(1, 2) end, { 5 }, function(p) return { 2, p[1] } end },
    { { 4, 5 }, function(x) return x:select(-1, -1) end, { 4 },
      function(p) return { p[1], 5 } end },
    { { 3 }, function(x) return x:select(1, 3) end, {}, function() return { 3 } end },
  },
  unfold = {
    { { 7 }, function(x) return x:unfold(1, 3, 2) end, { 3, 3 },
      function(p) return { 2 * (p[1] - 1) + p[2] } end },
    { { 2, 5, 2 }, function(x) return x:unfold(2, 3, 1) end, { 2, 3, 2, 3 },
      function(p) return { p[1], p[2] + p[4] - 1, p[3] } end },
    { { 3, 8 }, function(x) return x:unfold(-1, 2, 3) end, { 3, 3, 2 },
      function(p) return { p[1], 3 * (p[2] - 1) + p[3] } end },
    { { 0, 4 }, function(x) return x:unfold(2, 2) end, { 0, 3, 2 } },
  },
  diagonal = {
    { { 3, 4 }, function(x) return x:diagonal() end, { 3 }, function(p) return { p[1], p[1] } end },
    { { 3, 4 }, function(x) return x:diagonal(1) end, { 3 },
      function(p) return { p[1], p[1] + 1 } end },
  },
  transpose = {
    { { 2, 3, 4 }, function(x) return x:transpose(1, 3) end, { 4, 3, 2 },
      function(p) return { p[3], p[2], p[1] } end },
    { { 2, 3 }, function(x) return x:transpose(-1, -2) end, { 3, 2 },
      function(p) return { p[2], p[1] } end },
    { { 2, 3 }, function(x) return x:transpose(2, 2) end, { 2, 3 }, function(p) return p end },
    { {}, function(x) return x:transpose(1, 1) end, {}, function(p) return p end },
  },
  t = {
    { { 2, 3 }, function(x) return x:t() end, { 3, 2 }, function(p) return { p[2], p[1] } end },
    { { 3 }, function(x) return x:t() end, { 3 }, function(p) return p end },
    { {}, function(x) return x:t() end, {}, function(p) return p end },
  },
  permute = {
    { { 2, 3, 4 }, function(x) return x:permute(3, 1, 2) end, { 4, 2, 3 },
      function(p) return { p[2], p[3], p[1] } end },
    { { 2, 3, 4 }, function(x) return x:permute { -1, 2, 1 } end, { 4, 3, 2 },
      function(p) return { p[3], p[2], p[1] } end },
  },
  expand = {
    { { 3, 1 }, function(x) return x:expand(3, 4) end, { 3, 4 },
      function(p) return { p[1], 1 } end },
    { { 3, 1 }, function(x) return x:expand { 2, -1, 4 } end, { 2, 3, 4 },
      function(p) return { p[2], 1 } end },
    { {}, function(x) return x:expand(2, 2) end, { 2, 2 }, function() return {} end },
    { { 1 }, function(x) return x:expand(0) end, { 0 } },
  },
  squeeze = {
    { { 1, 3, 1 }, function(x) return x:squeeze() end, { 3 },
      function(p) return { 1, p[1], 1 } end },
    { { 1, 3, 1 }, function(x) return x:squeeze(1) end, { 3, 1 },
      function(p) return { 1, p[1], 1 } end },
    { { 1, 3, 1 }, function(x) return x:squeeze(2) end, { 1, 3, 1 }, function(p) return p end },
    { {}, function(x) return x:squeeze() end, {}, function(p) return p end },
  },
  unsqueeze = {
    { { 2, 3 }, function(x) return x:unsqueeze(1) end, { 1, 2, 3 },
      function(p) return { p[2], p[3] } end },
    { { 2, 3 }, function(x) return x:unsqueeze(-1) end, { 2, 3, 1 },
      function(p) return { p[1], p[2] } end },
    { {}, function(x) return x:unsqueeze(1) end, { 1 }, function() return {} end },
  },
  contiguous = {
    { { 2, 3 }, function(x) return x:contiguous() end, { 2, 3 }, function(p) return p end },
    { { 2, 3 }, function(x) return x:t():contiguous() end, { 3, 2 },
      function(p) return { p[2], p[1] } end, copies = true },
  },
  append = {   -- shares the memory of what was reserved: growing_spec
    { { 2, 1, 3 }, function(x) return x:reserve(1):append(x:narrow(2, 1, 1)) end, { 2, 2, 3 },
      function(p) return { p[1], 1, p[3] } end, copies = true },
  },
  cast = {
    { { 2, 3 }, function(x) return x:cast(moon.float64) end, { 2, 3 }, function(p) return p end },
    { { 2, 3 }, function(x) return x:cast "float32":cast "float64" end, { 2, 3 },
      function(p) return p end, copies = true, tolerance = 1e-6 },
  },
}

describe("view operators", function()
  it("are all here", function()
    for _, op in ipairs(moon.operators()) do
      if op.view and not op.hidden then assert.is_table(cases[op.name], op.name) end
    end
  end)

  for name, list in pairs(cases) do
    it(name .. " shows the elements it says, in the same memory", function()
      for _, case in ipairs(list) do
        local x = naive.random(case[1])
        local result = case[2](x)
        assert.same(case[3], result:size())
        if result:numel() > 0 then
          naive.close(result, naive.build(case[3], function(p)
            return naive.at(x, case[4](p))
          end), case.tolerance)
        end
        assert.equal(not case.copies, result:shares_memory(x))
        assert.equal("float64", result.dtype)
      end
    end)

    it(name .. " passes gradients back", function()
      for _, case in ipairs(list) do
        if not case.tolerance then gradcheck.check(case[2], { naive.random(case[1]) }) end
        local x = moon.zeros(case[1], { requires_grad = true, dtype = "float64" })
        local y = case[2](x)
        y:backward(moon.ones(y:size(), { dtype = "float64" }))
        assert.same(case[1], x.grad:size())
      end
    end)

    it(name .. " survives every allocation that fails", function()
      for _, case in ipairs(list) do
        local x = naive.random(case[1])
        x.requires_grad = true
        faults.every_allocation(function()
          case[2](x):sum():backward()
          x.grad = nil
        end)
        x.grad = nil
      end
    end)

    it(name .. " takes every type", function()
      for _, dtype in ipairs { "float32", "float16", "bfloat16", "int64", "int32", "uint8",
                               "bool" } do
        for _, case in ipairs(list) do
          local result = case[2](moon.ones(case[1], { dtype = dtype }))
          if name ~= "cast" then assert.equal(dtype, result.dtype) end
          assert.same(case[3], result:size())
        end
      end
    end)
  end
end)

describe("chains of views", function()
  it("write through to the base", function()
    local x = moon.zeros(4, 6)
    x:t():narrow(1, 2, 3):select(2, 3):fill_(7)
    assert.equal(21, x:sum():item())
    assert.equal(7, x[{ 3, 2 }])
    x:view(24):unfold(1, 2, 12):select(2, 2):fill_(1)
    assert.equal(1, x[{ 1, 2 }])
    assert.equal(1, x[{ 3, 2 }])
  end)

  it("can be seen in another shape only where the layout allows it", function()
    local x = naive.random { 2, 3, 4 }
    local turned = x:permute(2, 1, 3)
    naive.fails("view: input 3x2x4 is not laid out so that it can be seen as 24 without " ..
      "copying; use reshape, which copies when it must", turned.view, turned, 24)
    assert.is_true(turned:view(3, 2, 2, 2):shares_memory(x))
    assert.is_true(turned:view(3, 1, 2, 4):shares_memory(x))
    assert.is_false(turned:reshape(24):shares_memory(x))
    naive.close(turned:reshape(6, 4), turned:contiguous():view(6, 4))
    assert.is_true(x:narrow(1, 2, 1):view(12):shares_memory(x))
    local part = x:narrow(3, 2, 2)
    assert.is_true(part:view(6, 2):shares_memory(x))
    naive.fails("without copying", part.view, part, 12)
    assert.is_true(moon.ones(3):expand(2, 3):view(2, 3, 1):numel() == 6)
    naive.fails("without copying", function() return moon.ones(3):expand(2, 3):view(6) end)
    assert.is_false(x:select(3, 1):is_contiguous())
    assert.is_true(x:select(1, 1):is_contiguous())
  end)

  it("have gradients that find their way", function()
    gradcheck.check(function(x)
      return x:permute(3, 1, 2):narrow(1, 2, 3):select(2, 1):t():unfold(1, 2, 1):reshape(-1)
    end, { naive.random { 2, 3, 4 } })
    gradcheck.check(function(x)
      return (x:unsqueeze(2):expand(3, 5, 4) * x:t():select(2, 1):view(1, 1, 4)):flatten(2)
    end, { naive.random { 3, 4 } })
  end)

  it("add up what overlapping windows give back", function()
    local x = moon.zeros(5, { requires_grad = true })
    x:unfold(1, 3, 1):sum():backward()
    assert.same({ 1, 2, 3, 2, 1 }, x.grad:totable())
    local y = moon.zeros(2, 3, { requires_grad = true })
    y:expand(4, 2, 3):sum():backward()
    assert.same({ { 4, 4, 4 }, { 4, 4, 4 } }, y.grad:totable())
  end)

  it("keep the base alive", function()
    local view
    do
      local base = moon.arange(1, 1000)
      view = base:narrow(1, 500, 2)
    end
    collectgarbage()
    collectgarbage()
    assert.same({ 500, 501 }, view:totable())
  end)
end)

-- label, sentence, call
local mistakes = {
  { "view: 6 elements do not fill shape 4", function(x) return x:view(4) end },
  { "view: 6 elements do not fill shape 4x-1", function(x) return x:view(4, -1) end },
  { "view: a shape may hold one -1, got -1x-1", function(x) return x:view(-1, -1) end },
  { "view: a shape may hold one -1, got 2x-3", function(x) return x:view(2, -3) end },
  { "view: shape must be a whole number, got string", function(x) return x:view("6") end },
  { "view: shape is missing; the call is view(input: Tensor", function(x) return x:view() end },
  { "view: input must be a tensor, got number; a method is called with a colon, x:view(...)",
    function(x) return x.view(2, 3) end },
  { "reshape: 6 elements do not fill shape 7", function(x) return x:reshape(7) end },
  { "flatten: from must not lie behind to, got 2 and 1", function(x) return x:flatten(2, 1) end },
  { "flatten: dimension 3 does not exist in a tensor of 2 dimensions",
    function(x) return x:flatten(3) end },
  { "narrow: positions 2..4 do not lie in dimension 2 of size 3",
    function(x) return x:narrow(2, 2, 3) end },
  { "narrow: positions 1..-1 do not lie", function(x) return x:narrow(2, 1, -1) end },
  { "narrow: start counts from 1, or from -1 at the end; got 0",
    function(x) return x:narrow(2, 0, 1) end },
  { "narrow: dimension -3 does not exist", function(x) return x:narrow(-3, 1, 1) end },
  { "narrow: positions", function(x) return x:narrow(1, 2 ^ 62, 2 ^ 62) end },
  { "narrow: positions", function(x) return x:narrow(1, -2 ^ 62, -2 ^ 62) end },
  { "narrow: a 0-d tensor has no dimension to narrow",
    function() return moon.ones({}):narrow(1, 1, 1) end },
  { "select: index 4 lies outside dimension 2 of size 3", function(x) return x:select(2, 4) end },
  { "select: index -4 lies outside dimension 2 of size 3", function(x) return x:select(2, -4) end },
  { "select: a 0-d tensor has no dimension to select from",
    function() return moon.ones({}):select(1, 1) end },
  { "unfold: windows of size 4 at step 1 do not fit dimension 2 of size 3",
    function(x) return x:unfold(2, 4) end },
  { "unfold: windows of size 2 at step 0 do not fit", function(x) return x:unfold(2, 2, 0) end },
  { "transpose: dimension 3 does not exist in a tensor of 2 dimensions",
    function(x) return x:transpose(1, 3) end },
  { "transpose: b is missing", function(x) return x:transpose(1) end },
  { "t: input must have at most 2 dimensions, got 1x2x3; use transpose or permute",
    function(x) return x:unsqueeze(1):t() end },
  { "permute: order must name each of the 2 dimensions once, got 1",
    function(x) return x:permute(1) end },
  { "permute: order names dimension 1 twice", function(x) return x:permute(1, -2) end },
  { "expand: input 2x3 cannot be expanded to 4x3: only dimensions of size 1 stretch",
    function(x) return x:expand(4, 3) end },
  { "expand: input 2x3 cannot be expanded to 3", function(x) return x:expand(3) end },
  { "expand: input 2x3 cannot be expanded to -1x2x3", function(x) return x:expand(-1, 2, 3) end },
  { "expand: a tensor of 1099511627776x1099511627776 has more elements than memory can hold",
    function() return moon.ones(1):expand(2 ^ 40, 2 ^ 40) end },
  { "squeeze: dimension 3 does not exist", function(x) return x:squeeze(3) end },
  { "unsqueeze: dimension 4 does not exist in a tensor of 3 dimensions",
    function(x) return x:unsqueeze(4) end },
  { "unsqueeze: a tensor has at most 8 dimensions", function(x)
    for _ = 1, 7 do x = x:unsqueeze(1) end
    return x
  end },
  { "expand: shape takes at most 8 numbers",
    function(x) return x:expand(1, 1, 1, 1, 1, 1, 1, 2, 3) end },
  { "cast: there is no dtype \"float\"; the types are float32,",
    function(x) return x:cast("float") end },
}

describe("mistakes with views", function()
  for _, mistake in ipairs(mistakes) do
    it("are answered: " .. mistake[1], function()
      naive.fails(mistake[1], mistake[2], naive.random { 2, 3 })
    end)
  end
end)

describe("clone and contiguous", function()
  it("copy into memory of their own, in row-major order", function()
    local x = naive.random { 3, 4 }
    local copy = x:t():clone()
    assert.is_false(copy:shares_memory(x))
    assert.is_true(copy:is_contiguous())
    assert.same({ 3, 1 }, copy:stride())
    naive.close(copy, x:t())
    gradcheck.check(function(a) return a:t():clone() end, { x })
    assert.same({ 0, 2 }, moon.ones(0, 2):clone():size())
    faults.every_allocation(function() return x:clone() end)
  end)
end)

describe("cast", function()
  it("rounds to nearest, and truncates towards zero for integers", function()
    local x = moon.tensor({ 1.75, -1.75, 0, 2.5 }, { dtype = "float64" })
    assert.same({ 1, -1, 0, 2 }, x:cast("int64"):totable())
    assert.same({ 1, -1, 0, 2 }, x:cast("int32"):totable())
    assert.same({ true, true, false, true }, x:cast("bool"):totable())
    assert.equal(0.0999755859375, moon.tensor({ 0.1 }):cast("float16"):totable()[1])
    assert.equal(0.10009765625, moon.tensor({ 0.1 }):cast("bfloat16"):totable()[1])
    local flags = moon.tensor({ false, true }, { dtype = "bool" })
    assert.same({ 0, 1 }, flags:cast("float32"):totable())
  end)

  it("brings gradients back in the input's type", function()
    local x = moon.tensor({ 1, 2 }, { dtype = "float16", requires_grad = true })
    local y = x:cast("float64") * 3
    y:sum():backward()
    assert.equal("float16", x.grad.dtype)
    assert.same({ 3, 3 }, x.grad:totable())
  end)
end)

describe("copy_, fill_ and zero_", function()
  it("write into any layout, cast and broadcast", function()
    local x = moon.zeros(3, 2)
    assert.equal(x, x:t():copy_(moon.tensor({ 1, 2, 3 }, { dtype = "int64" })) and x)
    assert.same({ { 1, 1 }, { 2, 2 }, { 3, 3 } }, x:totable())
    x:select(2, 1):fill_(9)
    assert.same({ { 9, 1 }, { 9, 2 }, { 9, 3 } }, x:totable())
    x:narrow(1, 2, 2):zero_()
    assert.same({ { 9, 1 }, { 0, 0 }, { 0, 0 } }, x:totable())
    x:fill_(moon.tensor(4))
    assert.equal(24, x:sum():item())
    moon.empty(0):fill_(1):zero_():copy_(moon.ones(1))
  end)

  it("copy between overlapping views as if the source were apart", function()
    local x = moon.arange(1, 6)
    x:narrow(1, 2, 5):copy_(x:narrow(1, 1, 5))
    assert.same({ 1, 1, 2, 3, 4, 5 }, x:totable())
    local square = naive.random { 3, 3 }
    local turned = square:t():clone()
    square:copy_(square:t())
    naive.close(square, turned)
  end)

  it("carry gradients to what was written, and none to what was lost", function()
    gradcheck.check(function(x, y)
      local target = x * 2
      target:copy_(y)
      return target * 3
    end, { naive.random { 2, 3 }, naive.random({ 3 }, { seed = 5 }) })
    gradcheck.check(function(x, y)
      local target = x * 2
      target:fill_(y)
      return target * x
    end, { naive.random { 2, 3 }, naive.random({}, { seed = 5 }) })
    gradcheck.check(function(x)
      local target = x * 2
      target:zero_()
      return target * x + x
    end, { naive.random { 2, 3 } })
  end)

  it("survive every allocation that fails", function()
    local x, y = moon.zeros(3, 2), moon.ones(2, { dtype = "float64" })
    faults.every_allocation(function() x:copy_(y) end)
    faults.every_allocation(function() x:fill_(3) end)
    faults.every_allocation(function() x:copy_(x:select(1, 1)) end)
  end)

  it("answer mistakes with a sentence", function()
    local x = moon.zeros(3, 2)
    naive.fails("copy_: shapes 3x2 and 3x3 do not broadcast", x.copy_, x, moon.ones(3, 3))
    naive.fails("copy_: source 2x3x2 does not fit into 3x2", x.copy_, x, moon.ones(2, 3, 2))
    naive.fails("fill_: value must be a number or a 0-d tensor; use copy_ for more",
      x.fill_, x, moon.ones(2))
    naive.fails("fill_: value is 256, which a tensor of uint8 cannot hold",
      x.fill_, moon.ones(1, { dtype = "uint8" }), 256)
    local wide = moon.zeros(1):expand(3)
    for _, name in ipairs { "fill_", "copy_", "add_", "mul_" } do
      naive.fails(name .. ": an expanded tensor shares elements and cannot be changed in " ..
        "place, nor can overlapping windows; use clone() first", wide[name], wide, moon.ones({}))
    end
    naive.fails("zero_: an expanded tensor", wide.zero_, wide)
    naive.fails("an expanded tensor", function() wide[1] = 2 end)
    local windows = moon.zeros(5):unfold(1, 3, 1)
    naive.fails("fill_: an expanded tensor", windows.fill_, windows, 1)
    moon.zeros(6):unfold(1, 2, 3):fill_(1)
    moon.zeros(4, 6):t():unfold(1, 2, 2):fill_(1)
    moon.zeros(4, 6):unfold(2, 3, 1):select(3, 2):fill_(1)
  end)
end)
