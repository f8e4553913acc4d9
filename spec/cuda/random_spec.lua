-- Random numbers on a CUDA device: the CPU's to the bit, whatever the type, layout and tail.
local moon = require "moonlet"
local gpu = require "spec.support.gpu"
local twins = require "spec.support.twins"

local floats = { "float32", "float64", "float16", "bfloat16" }

describe("random numbers on " .. gpu.device .. ":", function()
  for _, dtype in ipairs(floats) do
    it(dtype .. " fractions are the CPU's to the bit, one draw after the other", function()
      twins.agree(nil, function()
        local options = { dtype = dtype }
        local a, b = moon.rand(5003, options), moon.randn({ 7, 301 }, options)
        local c = moon.zeros({ 33, 70 }, options)
        c:t():uniform_(-3, 5)
        c:narrow(2, 3, 30):normal_(2, 0.1)
        return a, b, c, moon.randn(1, options), moon.rand({ 0, 4 }, options)
      end)
    end)

    it(dtype .. " dropout and its gradient are the CPU's to the bit", function()
      twins.agree(nil, function(x)
        x = x:clone():requires_grad_()
        local y = moon.dropout(x, 0.3)
        y:sum():backward()
        local z = moon.dropout(x:detach():t(), 0.6)
        return y:detach(), x.grad, z, moon.dropout(x:detach()[{ {}, { 2, 18 } }], 0.5)
      end, moon.randn(57, 21):to(dtype))
    end)
  end

  it("more than one round of the grid draws", function()
    twins.agree(nil, function() return moon.rand(4200001) end)
  end)

  it("integers of every type", function()
    twins.agree(nil, function()
      return moon.randint(-5, 1000, { 3001 }), moon.randint(0, 255, { 777 }, { dtype = "uint8" }),
             moon.randint(-3, 3, { 31, 5 }, { dtype = "int32" })
    end)
  end)

  for _, count in ipairs { 0, 1, 2, 3, 17, 2500 } do
    it("a permutation of " .. count, function()
      twins.agree(nil, function() return moon.randperm(count), moon.randperm(count) end)
    end)
  end
end)
