-- Ten-line references: momentum as a moving average, RMSProp and Adam as a lecture writes them, in
-- plain Lua numbers, against the library over 20 steps of a real descent.
local moon = require "moonlet"
local optim = moon.optim

local STEPS, EPS = 20, 1e-8

-- f(x) = sum of scale (x - centre)^2 / 2 + cos x, steep one way and flat the other.
local scale, centre, first = { 10, 0.5, 1 }, { 1, -2, 0.25 }, { -1, 1.5, 2 }

local function slope(x, i) return scale[i] * (x - centre[i]) - math.sin(x) end

local function average_of_gradients(o)
  local v = { 0, 0, 0 }
  return function(x, i, g)
    v[i] = o.beta * v[i] + (1 - o.beta) * g
    return x - o.lr * v[i]
  end
end

local function rmsprop(o)
  local s = { 0, 0, 0 }
  return function(x, i, g)
    s[i] = o.beta * s[i] + (1 - o.beta) * g * g
    return x - o.lr * g / (math.sqrt(s[i]) + EPS)
  end
end

local function adam(o)
  local v, s = { 0, 0, 0 }, { 0, 0, 0 }
  return function(x, i, g, t)
    v[i] = o.beta1 * v[i] + (1 - o.beta1) * g
    s[i] = o.beta2 * s[i] + (1 - o.beta2) * g * g
    local v_hat, s_hat = v[i] / (1 - o.beta1 ^ t), s[i] / (1 - o.beta2 ^ t)
    return x - o.lr * v_hat / (math.sqrt(s_hat) + EPS)
  end
end

-- Every x after every step.
local function by_hand(rule)
  local x, rows = { first[1], first[2], first[3] }, {}
  for t = 1, STEPS do
    for i = 1, 3 do x[i] = rule(x[i], i, slope(x[i], i), t) end
    rows[t] = { x[1], x[2], x[3] }
  end
  return rows
end

local function by_library(class, given)
  local double = { dtype = "float64" }
  local x = moon.nn.parameter(moon.tensor(first, double))
  local a, c = moon.tensor(scale, double), moon.tensor(centre, double)
  local opt, rows = optim[class]({ x }, given), {}
  for t = 1, STEPS do
    opt:zero_grad()
    local loss = ((x - c):square() * a / 2 + x:cos()):sum()
    loss:backward()
    opt:step()
    rows[t] = x:totable()
  end
  return rows
end

local function agree(expected, found)
  for t = 1, STEPS do
    for i = 1, 3 do
      local difference = math.abs(expected[t][i] - found[t][i])
      assert.is_true(difference < 1e-12, ("step %d, element %d: %g"):format(t, i, difference))
    end
  end
end

describe("ten lines of Lua agree with", function()
  it("momentum as a moving average", function()
    agree(by_hand(average_of_gradients { lr = 0.1, beta = 0.9 }),
      by_library("SGD", { lr = 0.1, momentum = 0.9, average = true }))
  end)

  it("RMSProp", function()
    agree(by_hand(rmsprop { lr = 0.05, beta = 0.9 }),
      by_library("RMSprop", { lr = 0.05, alpha = 0.9 }))
  end)

  it("Adam", function()
    agree(by_hand(adam { lr = 0.1, beta1 = 0.9, beta2 = 0.999 }),
      by_library("Adam", { lr = 0.1 }))
  end)
end)

describe("momentum as a moving average", function()
  it("is the usual momentum at a rate (1 - momentum) times as high", function()
    -- v = beta v + (1 - beta) g is (1 - beta) times b = beta b + g, when both start at zero.
    agree(by_library("SGD", { lr = 0.1, momentum = 0.5, average = true }),
      by_library("SGD", { lr = 0.05, momentum = 0.5 }))
  end)

  it("damps what plain descent makes swing", function()
    local plain = by_library("SGD", { lr = 0.19 })
    local smooth = by_library("SGD", { lr = 0.19, momentum = 0.8, average = true })
    local function swing(rows)
      local turns = 0
      for t = 3, STEPS do
        local before, after = rows[t - 1][1] - rows[t - 2][1], rows[t][1] - rows[t - 1][1]
        if before * after < 0 then turns = turns + 1 end
      end
      return turns
    end
    assert.is_true(swing(smooth) < swing(plain) / 2)
  end)
end)
