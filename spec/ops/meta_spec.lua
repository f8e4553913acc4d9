-- The device "meta": every operator gives the shapes and types there that it gives on the CPU, or
-- says that they depend on elements. The cases of all families are run on both.
local moon = require "moonlet"
local case = require "spec.support.case"
local naive = require "spec.support.naive"
local sources = require "spec.support.sources"

local unpack = table.unpack or unpack

local function on_meta(value)
  if moon.is_tensor(value) then return value:to "meta" end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, member in pairs(value) do copy[key] = on_meta(member) end
  return copy
end

local function described(...)
  local list = {}
  for i = 1, select("#", ...) do
    local y = (select(i, ...))
    if type(y) == "table" then list[i] = described(unpack(y))
    elseif moon.is_tensor(y) then list[i] = y.dtype .. " " .. table.concat(y:size(), "x")
    else list[i] = type(y) end
  end
  return table.concat(list, ", ")
end

-- What a case gives: the results' types and shapes, or the error.
local function outcome(entry, arguments, count)
  local call = entry.call or moon[entry.operator]
  local ok, text = pcall(function() return described(call(unpack(arguments, 1, count))) end)
  return ok, text
end

local function check_case(entry, number, row, refused)
  local arguments, count = case.arguments(entry.operator, number, row)
  local ok, expected = outcome(entry, arguments, count)
  if not ok then error(expected, 0) end
  local meta_ok, actual = moon.with_device("meta", outcome, entry, on_meta(arguments), count)
  if not meta_ok and actual:find("no elements", 1, true) then
    refused[entry.operator] = true
  elseif actual ~= expected then
    error(("%s, case %d: %s on meta, %s on the CPU"):format(entry.operator, number, actual,
      expected), 0)
  end
end

-- Their results' sizes depend on elements, or they look at elements on the host: LAPACK's, and
-- those that refuse values.
local readers = {}
for name in ([[ masked_select masked_scatter nonzero unique unique_consecutive repeat_interleave nms
    batched_nms bincount one_hot quantile gaussian_nll_loss cholesky eigh eigvalsh svd svdvals
    inverse lstsq matrix_power matrix_rank pinv solve solve_triangular
  ]]):gmatch "%S+" do
  readers[name] = true
end

describe("the device meta", function()
  local refused = {}

  for _, family in ipairs(case.families()) do
    it("gives shapes and types for the cases of " .. family, function()
      for _, entry in ipairs(case.family(family)) do
        for number, row in ipairs(entry.cases) do
          check_case(entry, number, row, refused)
        end
      end
    end)
  end

  it("is refused only by operators that depend on elements", function()
    for name in pairs(refused) do assert.is_true(readers[name] == true, name) end
  end)

  it("holds shapes, strides and types, and nothing else", function()
    local before = moon.memory().live
    local x = moon.empty({ 100000, 100000 }, { device = "meta" })
    assert.equal("meta", x.device)
    assert.same({ 100000, 1 }, x:stride())
    assert.equal("[float32 tensor of 100000x100000 on meta]", tostring(x))
    assert.equal("[float64 tensor of 100000x100000 on meta]", tostring(x:t():double():relu()))
    assert.is_true(moon.memory().live - before < 4096)
  end)

  it("says so when elements are asked for", function()
    local x = moon.zeros(2, { device = "meta" })
    for _, ask in ipairs {
      function() return x:sum():item() end, function() return x:totable() end,
      function() return x:tobytes() end, function() return x[1] end,
      function() return x:to "cpu" end, function() return x[x:gt(0)] end,
      function() return x:address() end,
    } do
      local ok, message = pcall(ask)
      assert.is_false(ok)
      assert.matches("no elements", message)
    end
    local path = os.tmpname()
    assert.is_false(pcall(moon.save, path, { x = x }))
    os.remove(path)
  end)

  it("does not mix with others, but takes numbers", function()
    local x = moon.zeros(2, { device = "meta" })
    naive.fails("tensors must be on one device, got meta and cpu", moon.add, x, moon.zeros(2))
    assert.equal("meta", ((1 - x) * 2 + 3).device)
    x[1] = 5
    x[{ { 1, 2 } }] = 0
    assert.equal("meta", x.device)
  end)

  it("goes backward too", function()
    local x = moon.zeros(2, 3, { device = "meta", requires_grad = true })
    moon.linear(x, moon.zeros(4, 3, { device = "meta" })):relu():sum():backward()
    assert.same({ 2, 3 }, x.grad:size())
    assert.equal("meta", x.grad.device)
    local y = moon.zeros(2, { requires_grad = true })
    assert.is_false(pcall(function() y:to("meta"):sum():backward() end))
  end)

  it("is where new tensors go inside with_device, and no longer", function()
    local function devices()
      return moon.zeros(1).device .. moon.tensor({ 1 }).device .. moon.eye(2).device
        .. moon.zeros(1, { device = "cpu" }).device
    end
    assert.equal("metametametacpu", moon.with_device("meta", devices))
    assert.equal("cpucpucpucpu", devices())
    assert.is_false(pcall(moon.with_device, "meta", error))
    assert.equal("cpucpucpucpu", devices())
    naive.fails('there is no device "moon"', moon.with_device, "moon", devices)
  end)

  it("counts multiply-adds", function()
    local function count(fn)
      local before = moon.multiply_adds()
      fn()
      return moon.multiply_adds() - before
    end
    local function zeros(...) return moon.zeros(..., { device = "meta" }) end
    assert.equal(2 * 3 * 4 * 5, count(function()
      moon.matmul(zeros { 2, 3, 4 }, zeros { 2, 4, 5 })
    end))
    assert.equal(4 * 6 * 6 * 27, count(function()
      moon.conv2d(zeros { 1, 3, 8, 8 }, zeros { 4, 3, 3, 3 })
    end))
    assert.equal(0, count(function() moon.matmul(moon.zeros(2, 3), moon.zeros(3, 4)) end))
  end)

  -- A kernel that answers the host through a pointer must be answered here by hand.
  it("answers every kernel that tells the host something", function()
    local text = table.concat(sources.lines "csrc/device/kernels.def", "\n")
    local meta = table.concat(sources.lines "csrc/device/meta.c", "\n")
    local checked = 0
    for name, arguments in text:gsub("//[^\n]*", ""):gmatch "KERNEL%(([%w_]+), (%b())%)" do
      for argument in arguments:sub(2, -2):gmatch "[^,]+" do
        if argument:find("*", 1, true) and not argument:find("const ", 1, true)
            and not argument:find("moon_engine", 1, true) then
          checked = checked + 1
          assert.is_truthy(meta:find("." .. name .. " = ", 1, true), name .. " writes" .. argument)
        end
      end
    end
    assert.is_true(checked >= 3)
  end)
end)
