-- Pictures of filters, confusion and curves.
local moon = require "moonlet"
local viz = moon.viz
local gnuplot = require "moonlet.viz.gnuplot"
local pictures = require "spec.support.pictures"

local folder, clean

local function has_gnuplot()
  local result = os.execute("command -v gnuplot >/dev/null 2>&1")
  return result == true or result == 0
end

describe("pictures of what was learnt", function()
  before_each(function() folder, clean = pictures.folder() end)
  after_each(function() clean() end)

  it("show filters in a grid, enlarged without smoothing", function()
    local path = folder .. "/filters.png"
    viz.filters(moon.randn(5, 1, 3, 3), path, { scale = 4, columns = 3 })
    local picture = moon.image.load(path)
    assert.same({ 1, 2 * 16 + 4, 3 * 16 + 4 }, picture:size())
    local block = picture:narrow(2, 5, 4):narrow(3, 5, 4)
    assert.equal(block:min():item(), block:max():item())
  end)

  it("show coloured filters in colour and find the first convolution by themselves", function()
    local net = moon.nn.Sequential(moon.nn.Identity(), moon.nn.Conv2d(3, 4, 3))
    viz.filters(net, folder .. "/filters.png")
    assert.equal(3, moon.image.load(folder .. "/filters.png"):size(1))
    assert.has_error(function() viz.filters(moon.nn.Linear(2, 2), folder .. "/x.png") end)
  end)

  it("show a confusion matrix with names", function()
    if not has_gnuplot() then return pending("gnuplot is not installed") end
    local matrix = moon.metrics.ConfusionMatrix(2)
    matrix:add({ 1, 2, 2 }, { 1, 2, 1 })
    local path = folder .. "/confusion.png"
    assert.is_true(viz.confusion(matrix, path, { 'the "first"', "second" }))
    assert.equal(760, moon.image.load(path):size(3))
  end)

  it("show it plainly where gnuplot is missing, and say so", function()
    local run = gnuplot.run
    gnuplot.run = function() return nil, "gnuplot is not installed" end
    local matrix = moon.metrics.ConfusionMatrix(2)
    matrix:add({ 1, 2, 2 }, { 1, 2, 1 })
    local ok, why = viz.confusion(matrix, folder .. "/confusion.png")
    gnuplot.run = run
    assert.is_nil(ok)
    assert.matches("gnuplot is not installed; .* is a plain heat map", why)
    assert.equal(64, moon.image.load(folder .. "/confusion.png"):size(2))
  end)

  it("show curves from the metrics", function()
    if not has_gnuplot() then return pending("gnuplot is not installed") end
    local csv = moon.train.Csv(folder .. "/metrics.csv",
      { "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy" })
    csv:add { epoch = 1, train_loss = 2, train_accuracy = 0.3, test_loss = 1, test_accuracy = 0.5 }
    csv:add { epoch = 2, train_loss = 1, train_accuracy = 0.6, test_loss = 1, test_accuracy = 0.7 }
    assert.is_true(viz.curves(folder .. "/metrics.csv", folder .. "/curves.png"))
    assert.equal(1000, moon.image.load(folder .. "/curves.png"):size(3))
  end)

  it("say in a sentence what is in the way", function()
    local ok, why = viz.curves(folder .. "/none.csv", folder .. "/curves.png")
    assert.is_nil(ok)
    assert.matches("none.csv", why)
    ok, why = gnuplot.run(folder .. "/x.png", "plot nonsense(")
    assert.is_nil(ok)
    assert.is_string(why)
  end)
end)
