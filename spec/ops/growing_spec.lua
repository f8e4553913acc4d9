-- reserve and append: one array that grows, given once, never written where somebody looks.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local gradcheck = require "spec.support.gradcheck"
local naive = require "spec.support.naive"

local function drawn(...) return moon.randn(...):double() end

describe("append", function()
  it("writes into the room and copies nothing that is there", function()
    local x, a, b = drawn(2, 3, 4, 5), drawn(2, 2, 4, 5), drawn(2, 1, 4, 5)
    local base = x:reserve(3)
    assert.is_false(base:shares_memory(x))
    local first = base:append(a)
    local second = first:append(b)
    assert.is_true(first:shares_memory(base) and second:shares_memory(base))
    naive.close(base, x, 0)
    naive.close(first, moon.cat({ x, a }, 2), 0)
    naive.close(second, moon.cat({ x, a, b }, 2), 0)
    assert.is_true(second:is_contiguous "channels_last")
  end)

  it("copies where there is no room, or others have it", function()
    local x, a, b = drawn(2, 3, 4), drawn(2, 2, 4), drawn(2, 2, 4)
    local base = x:reserve(3)
    local first = base:append(a)
    local parts = {
      base:append(b), first:append(b), x:append(b), base:clone():append(b),
      base:narrow(2, 1, 2):append(b), base:narrow(1, 2, 1):append(b:narrow(1, 2, 1)),
      base:narrow(3, 1, 2):append(b:narrow(3, 1, 2)),
    }
    for _, other in ipairs(parts) do
      assert.is_false(other:shares_memory(base))
    end
    naive.close(base:append(b), moon.cat({ x, b }, 2), 0)
    naive.close(first:append(b), moon.cat({ x, a, b }, 2), 0)
    naive.close(first, moon.cat({ x, a }, 2), 0)
  end)

  it("takes no other image's channels for room", function()
    local base = moon.ones(2, 3, 1, 1):reserve(2)
    local first = base:narrow(1, 1, 1)
    assert.is_false(first:append(moon.zeros(1, 6, 1, 1)):shares_memory(base))
    naive.close(base, moon.ones(2, 3, 1, 1), 0)
  end)

  it("is a view to the tape, which lets nobody write into it", function()
    local x = drawn(1, 2, 3, 3):requires_grad_()
    local y = x:reserve(2):append(drawn(1, 2, 3, 3))
    assert.error_matches(function() y:mul_(2) end, "a view cannot be changed in place")
  end)

  it("has the gradient of cat, of every order, through a whole block", function()
    local w = { drawn(2, 3, 3, 3), drawn(2, 5, 3, 3), drawn(2, 7, 3, 3) }
    local function block(join)
      return function(x, ...)
        local weights = { ... }
        for i = 1, 3 do
          x = join(x, moon.conv2d(x:tanh(), weights[i], { padding = 1 }), i)
        end
        return (x * x):sum()
      end
    end
    local grow = block(function(x, new, i) return (i == 1 and x:reserve(6) or x):append(new) end)
    local copy = block(function(x, new) return moon.cat({ x, new }, 2) end)
    local grads = {}
    for i, fn in ipairs { grow, copy } do
      moon.manual_seed(2)
      local leaves = { drawn(2, 3, 4, 4):requires_grad_() }
      for k = 1, 3 do leaves[k + 1] = w[k]:clone():requires_grad_() end
      fn(leaves[1], leaves[2], leaves[3], leaves[4]):backward()
      grads[i] = leaves
    end
    for k = 1, 4 do naive.close(grads[1][k].grad, grads[2][k].grad, 1e-12) end
    assert.is_true(grads[1][2].grad:is_contiguous())
    gradcheck.second(function(x, more) return x:reserve(1):append(more):square() end,
      { drawn(1, 2, 2, 1), drawn(1, 1, 2, 1) })
  end)

  it("says what does not fit", function()
    local x = moon.zeros(2, 3, 4, 5)
    assert.has_error(function() x:append(moon.zeros(2, 1, 4, 4)) end,
      "append: more is 2x1x4x4 but input is 2x3x4x5: all sizes must agree but that of dimension 2")
    assert.has_error(function() x:append(moon.zeros(2)) end,
      "append: more is 2 but input is 2x3x4x5: all sizes must agree but that of dimension 2")
    assert.error_matches(function() x:append(moon.zeros(2, 1, 4, 5):double()) end, "cast one")
    assert.has_error(function() moon.zeros(2, 3):reserve(1) end,
      "reserve: input must have 3 to 5 dimensions (n, c, ...), got 2x3")
    assert.has_error(function() x:reserve(-1) end,
      "reserve: room must not be negative, got -1")
    assert.error_matches(function() x:reserve(2 ^ 53) end, "memory")
  end)

  it("survives every failing allocation", function()
    local x, more = moon.ones(2, 3, 4, 4), moon.ones(2, 2, 4, 4)
    faults.every_allocation(function() x:reserve(2):append(more) end)
    faults.every_allocation(function() x:append(more) end)
  end)
end)
