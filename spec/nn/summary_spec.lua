-- The summary of a net, which leaves the net as it was.
local moon = require "moonlet"
local nn = moon.nn

describe("summary", function()
  local net = nn.Sequential(nn.Conv2d(1, 8, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2),
    nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 4 * 4, 10))

  it("lists layers with output shape and parameters", function()
    local summary = nn.summary(net, { 1, 8, 8 })
    assert.equal(6, #summary.rows)
    assert.equal("8 x 8 x 8", summary.rows[1].shape)
    assert.equal(80, summary.rows[1].parameters)
    assert.equal("10", summary.rows[6].shape)
    assert.equal(80 + 1290, summary.parameters)
    assert.equal(1370 * 4, summary.bytes)
    local text = tostring(summary)
    assert.matches("Conv2d %(1%) +8 x 8 x 8 +80", text)
    assert.matches("1,370 parameters", text)
  end)

  it("leaves the net as it was", function()
    net:train()
    nn.summary(net, { 1, 8, 8 })
    assert.is_true(net[4].training)
    assert.is_nil(rawget(net[1], "forward"))
  end)

  it("leaves it as it was after a failure too", function()
    assert.has_error(function() nn.summary(net, { 3, 8, 8 }) end)
    assert.is_nil(rawget(net[1], "forward"))
    assert.is_true(net.training)
  end)
end)
