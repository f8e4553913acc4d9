-- Initialisers: the deviations that their papers ask for.
local moon = require "moonlet"
local init = moon.nn.init

describe("initialisers", function()
  it("count fan in and fan out", function()
    assert.same({ 27, 72 }, { init.fan(moon.zeros(8, 3, 3, 3)) })
    assert.same({ 5, 7 }, { init.fan(moon.zeros(7, 5)) })
    assert.has_error(function() init.fan(moon.zeros(3)) end)
  end)

  it("give the deviation that the papers ask for", function()
    moon.manual_seed(1)
    local w = moon.empty(200, 100)
    local function deviation() return w:std():item() end
    init.kaiming_normal(w)
    assert.is_true(math.abs(deviation() - math.sqrt(2 / 100)) < 0.003)
    init.kaiming_uniform(w, { mode = "fan_out" })
    assert.is_true(math.abs(deviation() - math.sqrt(2 / 200)) < 0.003)
    init.xavier_normal(w)
    assert.is_true(math.abs(deviation() - math.sqrt(2 / 300)) < 0.003)
    init.xavier_uniform(w, { gain = 2 })
    assert.is_true(math.abs(deviation() - 2 * math.sqrt(2 / 300)) < 0.005)
    assert.is_true(w:max():item() <= 2 * math.sqrt(6 / 300))
  end)

  it("fill with one value, off the tape", function()
    local layer = moon.nn.Linear(2, 2)
    assert.equal(layer.weight, init.constant(layer.weight, 3))
    assert.equal(12, layer.weight:sum():item())
    init.ones(layer.bias)
    init.zeros(layer.weight)
    assert.is_true(layer.weight.is_leaf)
    assert.equal(0, layer.weight:abs():max():item())
  end)

  it("name the nonlinearities they know", function()
    local _, message = pcall(init.gain, "step")
    assert.matches('unknown nonlinearity "step"; known: leaky_relu', message)
  end)
end)
