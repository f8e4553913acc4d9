-- Ranges of NVIDIA's profilers: what begins also ends, in order, whatever happens inside. In
-- processes of their own, since the emulated profiler writes to a file that a variable names.
local moon = require "moonlet"
local child = require "spec.support.child"
local gpu = require "spec.support.gpu"

if not gpu.emulated then return end   -- nothing reads what a GPU's profiler is told

-- The names of the ranges that a piece of program made, in brackets that close where they ended.
local function ranges_of(piece)
  local path = os.tmpname()
  local output, well = child.run([[
    local moon = require "moonlet"
    local gpu = require "spec.support.gpu"
  ]] .. piece, { EMULATED_NVTX = path })
  assert.is_true(well, output)
  local parts = {}
  for line in io.lines(path) do
    parts[#parts + 1] = line == "pop " and ")" or line:match "^push (.*)" .. "("
  end
  os.remove(path)
  return table.concat(parts)
end

describe("moon.cuda.range", function()
  it("is a range round a call, with its arguments and results", function()
    assert.equal("outer(inner())", ranges_of [[
      local a, b, n = moon.cuda.range("outer", function(x, ...)
        return moon.cuda.range("inner", function(y) return y + 1 end, x), nil, select("#", ...)
      end, 4, nil, nil)
      assert(a == 5 and b == nil and n == 2)
    ]])
  end)

  it("ends where the call fails, whose error passes on", function()
    assert.equal("bad()good()", ranges_of [[
      local reason = {}
      local ok, got = pcall(moon.cuda.range, "bad", function() error(reason) end)
      assert(not ok and got == reason)
      moon.cuda.range("good", moon.nn.Linear(2, 1), moon.ones(1, 2))
    ]])
  end)

  it("explains what is wrong", function()
    assert.has_error(function() moon.cuda.range(3, print) end)
    assert.has_error(function() moon.cuda.range "name" end)
  end)

  it("just calls where there is no CUDA", function()
    local output, well = child.run [[
      local moon = require "moonlet"
      assert(not moon.cuda.is_available())
      assert(moon.cuda.range("name", math.max, 3, 8) == 8)
      assert(not pcall(moon.cuda.ranges, true))
    ]]
    assert.is_true(well, output)
  end)
end)

describe("moon.cuda.ranges", function()
  it("makes operators and their backwards ranges, on any device, until it is off", function()
    for _, device in ipairs { "cpu", "cuda:0" } do
      local text = ranges_of(([[
        local x = moon.ones(3, { device = %q }):requires_grad_()
        assert(not moon.cuda.ranges())
        assert(moon.cuda.ranges(true) and moon.cuda.ranges())
        local y = (x * 3):sum()
        y:backward()
        assert(not moon.cuda.ranges(false))
        y = x + 1
      ]]):format(device))
      assert.matches("^mul%(%)sum%(.-%)sum backward%(.-%)mul backward%(.-%)$", text)
    end
  end)

  it("makes calls of layers ranges, in profiles too, balanced where one fails", function()
    local text = ranges_of [[
      local net = moon.nn.Sequential(moon.nn.Linear(2, 3), moon.nn.Tanh())
      local x = moon.ones(1, 2)
      moon.cuda.ranges(true)
      net(x)
      moon.profile(function() net[1](x) end)
      assert(not pcall(net, moon.ones(1, 5)))
      moon.cuda.ranges(false)
      net(x)
    ]]
    assert.matches("^Sequential%(Linear%(linear%b()%)Tanh%(tanh%b()%)%)Linear%(linear%b()%)" ..
      "ones%b()Sequential%(Linear%(linear%b()%)%)$", text)
  end)

  it("stay balanced when operators fail and when the mode changes inside of one", function()
    assert.equal("ones()ones()add()ones_like()Odd backward()", ranges_of [[
      local Odd = moon.Function:extend "Odd"
      function Odd.forward(_, x) return x * 2 end
      function Odd.backward(_, gradient)
        moon.cuda.ranges(false)
        return gradient * 2
      end
      local x = moon.ones(2, { requires_grad = true })
      local y = Odd(x)
      moon.cuda.ranges(true)
      assert(not pcall(moon.add, moon.ones(2), moon.ones(3)))
      y:backward(moon.ones_like(y))
    ]])
    assert.equal("", ranges_of [[
      moon.anomaly(function() moon.cuda.ranges(true) moon.cuda.ranges(false) end)
      assert(not moon.cuda.ranges())
    ]])
    assert.equal("ones()", ranges_of [[
      moon.anomaly(function() moon.cuda.ranges(true) end)
      moon.ones(2)
    ]])
  end)
end)
