-- Nothing goes unproven: every operator has a case with a naive reference, PyTorch's result or the
-- reason why there is none, a gradient check or the reason why there is none, and an example; every
-- optimiser and schedule has a spec that names it.
local moon = require "moonlet"
local case = require "spec.support.case"
local sources = require "spec.support.sources"

local entries = {}
for _, family in ipairs(case.families()) do
  for _, entry in ipairs(case.family(family)) do entries[entry.operator] = entry end
end

local function visible()
  local list = {}
  for _, op in ipairs(moon.operators()) do
    if not op.hidden then list[#list + 1] = op end
  end
  return list
end

-- Names of the operators for which check(op, entry) is false.
local function lacking(check)
  local names = {}
  for _, op in ipairs(visible()) do
    if not check(op, entries[op.name]) then names[#names + 1] = op.name end
  end
  return table.concat(names, ", ")
end

local function has_peer(entry)
  for _, row in ipairs(entry.cases) do
    if row.torch then return true end
  end
  return type(entry.peer) == "string" and #entry.peer > 5
end

describe("every operator", function()
  it("has a case and a naive reference", function()
    assert.equal("", lacking(function(_, entry)
      return entry and #entry.cases > 0 and type(entry.naive) == "function"
    end))
  end)

  it("has PyTorch's result, or a reason why it has none", function()
    assert.equal("", lacking(function(_, entry) return entry and has_peer(entry) end))
  end)

  it("has a gradient check, or a reason why it has none", function()
    assert.equal("", lacking(function(_, entry)
      return entry and (entry.gradient ~= false or type(entry.why) == "string")
    end))
  end)

  it("that says it has a gradient has it checked", function()
    assert.equal("", lacking(function(op, entry)
      return op.order == "none" or entry and (entry.gradient ~= false or #entry.why > 5)
    end))
  end)

  it("gives a reason for what is left out", function()
    assert.equal("", lacking(function(_, entry)
      local out = entry and (entry.layouts == false or entry.dtypes)
      return not out or type(entry.why) == "string"
    end))
  end)

  it("is documented, with an example", function()
    assert.equal("", lacking(function(op) return #op.doc > 3 and op.example end))
  end)
end)

describe("every case", function()
  it("is of an operator", function()
    local known = {}
    for _, op in ipairs(moon.operators()) do known[op.name] = true end
    for name in pairs(entries) do assert.is_true(known[name] == true, name) end
  end)
end)

describe("what PyTorch gave", function()
  it("is stored in at most 5 MB", function()
    local bytes = 0
    for _, path in ipairs(sources.files("spec/fixtures", ".safetensors")) do
      local file = assert(io.open(sources.root .. "/" .. path, "rb"))
      bytes = bytes + file:seek("end")
      file:close()
    end
    assert.is_true(bytes > 1e5 and bytes <= 5e6, bytes)
  end)
end)

-- The text of all specs.
local function all_specs()
  local parts = {}
  for _, path in ipairs(sources.files("spec", "_spec.lua")) do
    parts[#parts + 1] = table.concat(sources.lines(path), "\n")
  end
  return table.concat(parts, "\n")
end

local bases = { Optimizer = true, Schedule = true, Schedules = true, Wrapper = true }

-- Layers have spec/nn/every_layer_spec.lua for this.
describe("every optimiser and schedule", function()
  local text = all_specs()
  for _, path in ipairs(sources.files("lua/moonlet/optim", ".lua")) do
    local class = require("moonlet.optim." .. path:match "([%w_]+)%.lua$")
    if type(class) == "table" and rawget(class, "class_name") and not bases[class.class_name] then
      it(class.class_name .. " is named by a spec", function()
        assert.is_truthy(text:find("%f[%w_]" .. class.class_name .. "%f[^%w_]"))
      end)
    end
  end
end)
