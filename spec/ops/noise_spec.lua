-- Noise that regularises: what is drawn (how often, in which groups, with which mean and variance),
-- reproducibility, sentences, failing allocations.
local moon = require "moonlet"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"

local fails = naive.refuses

-- Fails unless the share of zeros in `groups` lies within five deviations of p.
local function expect_share(groups, p)
  local n, zeros = groups:numel(), groups:eq(0):sum():item()
  assert.is_true(math.abs(zeros / n - p) < 5 * math.sqrt(p * (1 - p) / n))
end

describe("dropout of channels and samples", function()
  local operators = { dropout1d = { 100, 60, 4 }, dropout2d = { 100, 60, 2, 3 },
                      dropout3d = { 100, 60, 2, 1, 3 } }
  for name, shape in pairs(operators) do
    it(name .. " drops whole channels and keeps the mean", function()
      moon.manual_seed(3)
      local y = moon[name](moon.ones(shape, { dtype = "float64" }), 0.3):reshape(6000, -1)
      naive.close(y:min(2), y:max(2))
      expect_share(y:select(2, 1), 0.3)
      assert.is_true(math.abs(y:max():item() - 1 / 0.7) < 1e-12)
    end)
  end

  it("drop_path drops whole samples", function()
    moon.manual_seed(4)
    local y = moon.drop_path(moon.ones(5000, 2, 2, { dtype = "float64" }), 0.2):reshape(5000, 4)
    naive.close(y:min(2), y:max(2))
    expect_share(y:select(2, 1), 0.2)
    assert.is_true(math.abs(y:max():item() - 1.25) < 1e-12)
  end)

  it("has the mask as its gradient", function()
    local x = moon.ones(20, 3, 4, { requires_grad = true })
    local y = moon.dropout1d(x, 0.5)
    y:sum():backward()
    naive.close(x.grad, y)
  end)

  it("gives the input itself in evaluation, and zeros for p = 1", function()
    local x = moon.randn(2, 3, 4)
    naive.close(moon.dropout1d(x, 0.5, false), x)
    naive.close(moon.dropout1d(x, 1), moon.zeros(2, 3, 4))
    naive.close(moon.alpha_dropout(x, 1), moon.zeros(2, 3, 4))
  end)

  it("draws the same after the same seed", function()
    local x = moon.ones(50, 4, 3)
    for _, name in ipairs { "dropout1d", "alpha_dropout", "feature_alpha_dropout", "drop_path",
                            "gaussian_noise" } do
      moon.manual_seed(9)
      local first = moon[name](x, 0.5)
      local other = moon[name](x, 0.5)
      moon.manual_seed(9)
      naive.close(moon[name](x, 0.5), first)
      assert.is_true((other - first):abs():max():item() > 0)
    end
  end)
end)

describe("alpha_dropout", function()
  it("keeps mean 0 and variance 1", function()
    moon.manual_seed(6)
    local x = moon.randn(200000, { dtype = "float64" })
    for _, p in ipairs { 0.1, 0.5 } do
      local y = moon.alpha_dropout(x, p)
      assert.is_true(math.abs(y:mean():item()) < 0.02)
      assert.is_true(math.abs(y:var():item() - 1) < 0.02)
    end
  end)

  it("drops to one value, by channel on request", function()
    moon.manual_seed(6)
    local p, floor = 0.4, -1.7580993408473766
    local a = ((1 - p) * (1 + p * floor ^ 2)) ^ -0.5
    local dropped = a * floor - a * p * floor
    local y = moon.feature_alpha_dropout(moon.ones(100, 50, 4, { dtype = "float64" }), p)
    local channels = y:reshape(5000, 4)
    naive.close(channels:min(2), channels:max(2))
    assert.is_true(math.abs(y:min():item() - dropped) < 1e-12)
    expect_share(channels:select(2, 1) - dropped, p)
  end)
end)

describe("gaussian_noise", function()
  it("has the deviation that was asked for, and passes the gradient on", function()
    moon.manual_seed(7)
    local x = moon.full({ 100000 }, 3, { dtype = "float64", requires_grad = true })
    local y = moon.gaussian_noise(x, 0.5)
    assert.is_true(math.abs(y:mean():item() - 3) < 0.01)
    assert.is_true(math.abs(y:std():item() - 0.5) < 0.01)
    y:sum():backward()
    assert.equal(1, x.grad:min():item())
    assert.equal(1, x.grad:max():item())
  end)
end)

describe("noise", function()
  it("says what does not fit", function()
    fails("dropout2d", "input must have 4 dimensions (n, c, h, w), got 2x3", moon.ones(2, 3))
    fails("dropout1d", "input must have 3 dimensions (n, c, l), got 3", moon.ones(3))
    fails("dropout3d", "p must lie in 0..1, got 1.5", moon.ones(1, 1, 1, 1, 1), 1.5)
    fails("drop_path", "input must have dimensions (n, ...), got 0-d", moon.tensor(1))
    fails("alpha_dropout", "p must lie in 0..1, got -1", moon.ones(3), -1)
    fails("feature_alpha_dropout", "input must have dimensions (n, c, ...), got 3", moon.ones(3))
    fails("gaussian_noise", "std must be a number from 0, got -1", moon.ones(3), -1)
    fails("gaussian_noise", "std must be a number from 0, got inf", moon.ones(3), math.huge)
    fails("drop_path", "p must lie in 0..1", moon.ones(3), 0 / 0)
  end)

  it("survives the failure of any allocation", function()
    local x = moon.randn(2, 3, 2, { requires_grad = true })
    for _, name in ipairs { "dropout1d", "alpha_dropout", "feature_alpha_dropout", "drop_path",
                            "gaussian_noise" } do
      faults.every_allocation(function()
        moon[name](x, 0.5):sum():backward()
        x.grad = nil
      end)
    end
  end)
end)
