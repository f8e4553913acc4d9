-- Optimisers without a peer in PyTorch against ten-line references from their papers, in plain Lua
-- numbers: LAMB, LARS, Lookahead, SAM, and the options of EMA.
local moon = require "moonlet"
local optim, nn = moon.optim, moon.nn

local STEPS = 20
local double = { dtype = "float64" }

-- Two layers of two numbers; gradients of a bowl with its bottom at `bottom`.
local start = { { 1, -2 }, { 0.5, 3 } }
local bottom, steep = { { 0, 1 }, { -1, 2 } }, { { 2, 0.5 }, { 1, 3 } }

local function slopes(x)
  local g = {}
  for l = 1, 2 do
    g[l] = {}
    for i = 1, 2 do g[l][i] = steep[l][i] * (x[l][i] - bottom[l][i]) end
  end
  return g
end

local function copy(x) return { { x[1][1], x[1][2] }, { x[2][1], x[2][2] } } end
local function norm(list) return math.sqrt(list[1] ^ 2 + list[2] ^ 2) end

-- rule(x, slopes, t) changes x in place.
local function by_hand(rule)
  local x = copy(start)
  for t = 1, STEPS do rule(x, slopes(x), t) end
  return x
end

local function layers()
  local function layer(l) return nn.parameter(moon.tensor(start[l], double)) end
  return { layer(1), layer(2) }
end

local function loss_of(params)
  local sum
  for l = 1, 2 do
    local off = params[l] - moon.tensor(bottom[l], double)
    local term = (off:square() * moon.tensor(steep[l], double)):sum() / 2
    sum = sum and sum + term or term
  end
  return sum
end

local function by_library(make)
  local params = layers()
  local opt = make(params)
  for _ = 1, STEPS do
    opt:step(function()
      opt:zero_grad()
      local loss = loss_of(params)
      loss:backward()
      return loss
    end)
  end
  return { params[1]:totable(), params[2]:totable() }
end

local function agree(expected, found)
  for l = 1, 2 do
    for i = 1, 2 do
      assert.is_true(math.abs(expected[l][i] - found[l][i]) < 1e-12,
        ("%.17g is not %.17g"):format(found[l][i], expected[l][i]))
    end
  end
end

describe("LAMB", function()
  it("is the paper's algorithm 2", function()
    local lr, b1, b2, eps, decay = 0.05, 0.8, 0.9, 1e-6, 0.1
    local m, v = { { 0, 0 }, { 0, 0 } }, { { 0, 0 }, { 0, 0 } }
    local expected = by_hand(function(x, g, t)
      for l = 1, 2 do
        local u = {}
        for i = 1, 2 do
          m[l][i] = b1 * m[l][i] + (1 - b1) * g[l][i]
          v[l][i] = b2 * v[l][i] + (1 - b2) * g[l][i] ^ 2
          local root = math.sqrt(v[l][i] / (1 - b2 ^ t)) + eps
          u[i] = m[l][i] / (1 - b1 ^ t) / root + decay * x[l][i]
        end
        local ratio = norm(x[l]) / norm(u)
        for i = 1, 2 do x[l][i] = x[l][i] - lr * ratio * u[i] end
      end
    end)
    agree(expected, by_library(function(params)
      return optim.LAMB(params, {
        lr = lr, beta1 = b1, beta2 = b2, eps = eps, weight_decay = decay,
      })
    end))
  end)

  it("moves weights that are all zero by Adam's step", function()
    local p = nn.parameter(moon.zeros(2, double))
    local opt = optim.LAMB({ p }, { lr = 0.1, eps = 0 })
    p.grad = moon.tensor({ 3, -4 }, double)
    opt:step()
    assert.is_true(math.abs(p[1] + 0.1) < 1e-12 and math.abs(p[2] - 0.1) < 1e-12)
  end)
end)

describe("LARS", function()
  local function reference(lr, mu, decay, trust, nesterov)
    local b = { { 0, 0 }, { 0, 0 } }
    return by_hand(function(x, g)
      for l = 1, 2 do
        local rate = lr * trust * norm(x[l]) / (norm(g[l]) + decay * norm(x[l]))
        for i = 1, 2 do
          local d = rate * (g[l][i] + decay * x[l][i])
          b[l][i] = mu * b[l][i] + d
          x[l][i] = x[l][i] - (nesterov and d + mu * b[l][i] or b[l][i])
        end
      end
    end)
  end

  it("is the paper's algorithm 1", function()
    for _, nesterov in ipairs { false, true } do
      agree(reference(0.5, 0.9, 0.01, 0.05, nesterov), by_library(function(params)
        return optim.LARS(params, {
          lr = 0.5, momentum = 0.9, weight_decay = 0.01, trust = 0.05, nesterov = nesterov,
        })
      end))
    end
  end)

  it("is momentum where a group does not adapt", function()
    agree(
      by_library(function(params)
        return optim.SGD(params, { lr = 0.05, momentum = 0.9, weight_decay = 0.1 })
      end),
      by_library(function(params)
        return optim.LARS(params, {
          lr = 0.05, momentum = 0.9, weight_decay = 0.1, adapt = false,
        })
      end))
  end)
end)

describe("Lookahead", function()
  it("is the paper's algorithm 1 round descent", function()
    local k, alpha, lr = 3, 0.7, 0.2
    local slow = copy(start)
    local expected = by_hand(function(x, g, t)
      for l = 1, 2 do
        for i = 1, 2 do
          x[l][i] = x[l][i] - lr * g[l][i]
          if t % k == 0 then
            slow[l][i] = slow[l][i] + alpha * (x[l][i] - slow[l][i])
            x[l][i] = slow[l][i]
          end
        end
      end
    end)
    agree(expected, by_library(function(params)
      return optim.Lookahead(optim.SGD(params, { lr = lr }), { k = k, alpha = alpha })
    end))
  end)

  it("is the wrapped optimiser with alpha = 1", function()
    local function adam(params) return optim.Adam(params, { lr = 0.1 }) end
    agree(by_library(adam), by_library(function(params)
      return optim.Lookahead(adam(params), { alpha = 1 })
    end))
  end)
end)

describe("SAM", function()
  local function reference(rho, lr, adaptive)
    return by_hand(function(x, g)
      local sum, up = 0, copy(x)
      for l = 1, 2 do
        for i = 1, 2 do sum = sum + (adaptive and x[l][i] * g[l][i] or g[l][i]) ^ 2 end
      end
      for l = 1, 2 do
        for i = 1, 2 do
          local weight = adaptive and x[l][i] ^ 2 or 1
          up[l][i] = x[l][i] + rho * weight * g[l][i] / (math.sqrt(sum) + 1e-12)
        end
      end
      local there = slopes(up)
      for l = 1, 2 do
        for i = 1, 2 do x[l][i] = x[l][i] - lr * there[l][i] end
      end
    end)
  end

  it("takes the gradient at the worst point nearby", function()
    for _, adaptive in ipairs { false, true } do
      agree(reference(0.3, 0.1, adaptive), by_library(function(params)
        return optim.SAM(optim.SGD(params, { lr = 0.1 }), { rho = 0.3, adaptive = adaptive })
      end))
    end
  end)

  it("is the wrapped optimiser with rho = 0", function()
    local function sgd(params) return optim.SGD(params, { lr = 0.1, momentum = 0.5 }) end
    agree(by_library(sgd), by_library(function(params)
      return optim.SAM(sgd(params), { rho = 0 })
    end))
  end)

  it("comes back when the second closure fails", function()
    local params, calls = layers(), 0
    local opt = optim.SAM(optim.SGD(params), { rho = 1 })
    local ok, message = pcall(opt.step, opt, function()
      calls = calls + 1
      if calls == 2 then error("no more data", 0) end
      loss_of(params):backward()
    end)
    assert.is_false(ok)
    assert.equal("no more data", message)
    assert.same(start, { params[1]:totable(), params[2]:totable() })
  end)
end)

describe("EMA", function()
  it("starts at the weights of the first update, and warms up where asked", function()
    local p = nn.parameter(moon.tensor({ 4 }, double))
    local ema = optim.EMA({ p }, { decay = 0.5, warmup = true })
    ema:update()
    assert.equal(4, ema.averages[1][1])
    local expected = 4
    for n = 1, 12 do
      moon.no_grad(function() p:mul_(0.9) end)
      ema:update()
      local decay = math.min(0.5, (1 + n) / (10 + n))
      expected = decay * expected + (1 - decay) * p[1]
      assert.is_true(math.abs(ema.averages[1][1] - expected) < 1e-12)
    end
  end)

  it("takes the weights' place and leaves it, also when something fails there", function()
    local net = nn.Linear(2, 1)
    local ema = optim.EMA(net, { decay = 0.5 })
    local first = net.weight:totable()
    ema:update()
    moon.no_grad(function() net.weight:add_(1) end)
    local moved = net.weight:totable()
    assert.equal("done", ema:with(function(word)
      assert.same(first, net.weight:totable())
      return word
    end, "done"))
    assert.same(moved, net.weight:totable())
    local _, message = pcall(ema.with, ema, function() error("bad", 0) end)
    assert.equal("bad", message)
    assert.same(moved, net.weight:totable())
  end)

  it("leaves gradients and the tape alone", function()
    local net = nn.Linear(2, 1)
    local ema = optim.EMA(net)
    net(moon.ones(1, 2)):sum():backward()
    ema:update()
    ema:update()
    assert.is_false(ema.averages[1].requires_grad)
    assert.is_true(net.weight.requires_grad)
    assert.same({ { 1, 1 } }, net.weight.grad:totable())
  end)
end)
