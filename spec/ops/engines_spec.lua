-- The convolution engines, asked for one by one: every kind of convolution that the networks of
-- lua/moonlet/models have, three directions, each instruction set, one to three threads.
local moon = require "moonlet"
local child = require "spec.support.child"
local engines = require "spec.support.engines"
local naive = require "spec.support.naive"

-- Sanitized kernels take ten times as long.
local few = os.getenv "MOONLET_SANITIZER" ~= nil

-- This process takes the best set that the machine has, children the ones below it; sanitizers see
-- those in the C programs' convolutions.
local lower = { avx512 = { "avx2", "baseline" }, avx2 = { "baseline" }, baseline = {} }

-- What a child prints: problems, a line each, and then "engine = count" for each engine.
local piece = [[
  local moon = require "moonlet"
  assert(moon.cpu_level() == os.getenv("MOONLET_CPU"))
  local problems, used = require "spec.support.engines".report(true)
  for _, problem in ipairs(problems) do print(problem) end
  for name, count in pairs(used) do print(name .. " = " .. count) end
]]

local function check_used(used)
  for _, name in ipairs(engines.names()) do
    assert.is_true((used[name] or 0) > 0, ('engine "%s" never ran'):format(name))
  end
end

describe("convolution engines", function()
  it("are right and give the same bits on any number of threads", function()
    local problems, used = engines.report(few)
    assert.same({}, problems)
    check_used(used)
  end)

  for _, level in ipairs(few and {} or lower[moon.cpu_level()]) do
    it("are so on " .. level, function()
      local output, well = child.run(piece, { MOONLET_CPU = level })
      assert(well, output)
      local problems, used = {}, {}
      for line in output:gmatch "[^\n]+" do
        local name, count = line:match "^(.-) = (%d+)$"
        if name then used[name] = tonumber(count) else problems[#problems + 1] = line end
      end
      assert.same({}, problems)
      check_used(used)
    end)
  end

  it("stay away from transforms where precision is asked for", function()
    finally(function() moon.precise(false) end)
    local asked, left = 0, 0
    for _, name in ipairs(engines.names()) do
      if name:match "^winograd_.x3" then asked = asked + 1 end
      local plain = engines.try(name)
      moon.precise(true)
      local precise, off = engines.try(name)
      moon.precise(false)
      assert.is_nil(precise:match "^winograd", name)
      assert.is_true(off <= 1e-5, name)
      if name ~= "" and plain == name and precise ~= name then left = left + 1 end
    end
    assert.equal(asked, left)
  end)

  it("do with little room for scratch", function()
    local before = moon.workspace_limit()
    finally(function() moon.workspace_limit(before) end)
    moon.workspace_limit(0)
    for _, name in ipairs(engines.names()) do
      local used, off = engines.try(name)
      assert.is_true(off <= engines.tolerance(used), name)
    end
  end)

  it("are asked for by name, and a name too long for one is refused", function()
    assert.equal("", moon.conv_engine())
    naive.fails("conv_engine: ", moon.conv_engine, ("long"):rep(20))
    assert.equal("", moon.conv_engine())
  end)
end)
