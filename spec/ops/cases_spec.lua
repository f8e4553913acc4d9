-- Every case of spec/cases before every witness (spec/support/witnesses.lua); with SPEC_PART in
-- the environment that family's alone. A filter would not do: PUC 5.4 takes milliseconds for the
-- traceback that busted makes of each `it` it hears of, so all families together cost 9 s.
local moon = require "moonlet"
local case = require "spec.support.case"
local witnesses = require "spec.support.witnesses"

-- Shapes a family, shared among its operators; under sanitizers `make fuzz` draws more.
local FUZZED = os.getenv "MOONLET_SANITIZER" and 20 or 200

local descriptors = {}
for _, descriptor in ipairs(moon.operators()) do descriptors[descriptor.name] = descriptor end

local function has_peer(entry)
  for _, row in ipairs(entry.cases) do
    if row.torch then return true end
  end
end

local function describe_entry(family, entry, rounds)
  local descriptor = descriptors[entry.operator]
  it("is an operator", function() assert.is_table(descriptor) end)
  it("agrees with plain Lua", function() witnesses.values(entry) end)
  if entry.fuzz then
    it("agrees with plain Lua on drawn arguments", function()
      witnesses.fuzz(entry, descriptor, rounds)
    end)
  end
  if has_peer(entry) then
    it("agrees with PyTorch", function() witnesses.peer(entry, descriptor, family) end)
  end
  if entry.gradient ~= false then
    it("has the gradient", function() witnesses.gradient(entry) end)
    if moon.grad then
      it("has the gradient's gradient, or says that it has none", function()
        witnesses.second(entry)
      end)
    end
  end
  it("takes its other types", function() witnesses.dtypes(entry, descriptor) end)
  if entry.layouts ~= false then
    it("takes any layout", function() witnesses.layouts(entry) end)
  end
  it("gives the same bits on 1, 2 and 3 threads", function()
    witnesses.threads(entry, descriptor)
  end)
end

local only = os.getenv "SPEC_PART"
for _, family in ipairs(only and { only } or case.families()) do
  describe("cases of " .. family .. ":", function()
    local entries, fuzzed = case.family(family), 0
    for _, entry in ipairs(entries) do
      if entry.fuzz then fuzzed = fuzzed + 1 end
    end
    for _, entry in ipairs(entries) do
      describe(entry.operator, function()
        describe_entry(family, entry, math.ceil(FUZZED / math.max(1, fuzzed)))
      end)
    end
  end)
end
