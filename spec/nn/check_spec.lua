-- net:check: shapes, mismatches and the bill, without calculating.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn = moon.nn

local function texts(report)
  local list = {}
  for i, problem in ipairs(report.problems) do list[i] = problem.text end
  return table.concat(list, "\n")
end

describe("net:check", function()
  it("gives the shapes that a run gives", function()
    local net = nn.Sequential(nn.Conv2d(3, 8, 3, { stride = 2 }), nn.BatchNorm2d(8), nn.ReLU(),
      nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 3 * 3, 10))
    local report = net:check { 2, 3, 14, 14 }
    assert.is_true(report.ok)
    assert.equal(6, #report.rows)
    local x = moon.zeros(2, 3, 14, 14)
    for i = 1, 6 do
      x = net[i](x)
      assert.same(x:size(), report.rows[i].output)
      assert.equal(x:numel(), report.rows[i].activations)
    end
    assert.same(x:size(), report.output)
  end)

  it("sends out a bill", function()
    local report = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(),
      nn.Linear(8 * 4 * 4, 10)):check { 1, 3, 6, 6 }
    assert.equal(3 * 8 * 9 + 8, report.rows[1].parameters)
    assert.equal(8 * 4 * 4 * 27, report.rows[1].multiply_adds)
    assert.equal(128 * 10, report.rows[4].multiply_adds)
    assert.equal(224 + 1290, report.parameters)
    assert.equal(128 * 27 + 1280, report.multiply_adds)
    assert.equal(3 * 128 + 10, report.activations)
    assert.equal(3 * 36 * 128, report.rows[1].dense)
  end)

  it("says what a dense layer in the place of [-1 1] on a photograph would have", function()
    local report = nn.Conv2d(1, 1, { 1, 2 }, { bias = false }):check { 1, 1, 280, 320 }
    assert.same({ 1, 1, 280, 319 }, report.output)
    assert.equal(2, report.parameters)
    assert.equal(8003072000, report.rows[1].dense)
    assert.matches("8,003,072,000", tostring(report))
  end)

  it("knows that three 3x3 layers see 7x7 with 27 weights against 49", function()
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    local report = net:check { 1, 1, 20, 20 }
    assert.same({ 7, 7 }, report.field)
    assert.same({ 1, 1 }, report.stride)
    assert.equal(27, report.weights)
    assert.matches("convolutions see 7x7 with 27 weights for each pair of channels; one would "
      .. "have 49", tostring(report))
  end)

  it("follows fields and strides through pooling, dilation and branches", function()
    local net = nn.Sequential(nn.Conv2d(1, 4, 3, { stride = 2, padding = 1 }), nn.MaxPool2d(2),
      nn.Residual(nn.Conv2d(4, 4, 3, { padding = 2, dilation = 2 })), nn.ReLU(),
      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    local rows = net:check({ 1, 1, 32, 32 }).rows
    assert.same({ 3, 3 }, rows[1].field)
    assert.same({ 2, 2 }, rows[1].stride)
    assert.same({ 5, 5 }, rows[2].field)
    assert.same({ 4, 4 }, rows[2].stride)
    assert.same({ 5 + 4 * 4, 21 }, rows[3].field)
    assert.same({ 21, 21 }, rows[4].field)
    assert.same({ 21 + 7 * 4, 49 }, rows[5].field)
    assert.is_true(rows[6].sees_all)
    assert.matches("all", tostring(net:check { 1, 1, 32, 32 }))
  end)

  -- The field is measured too: the inputs that have a gradient for one output.
  it("gives the field that gradients have", function()
    local net = nn.Sequential(nn.Conv1d(1, 1, 3, { stride = 2 }), nn.AvgPool2d({ 1, 1 }),
      nn.Conv1d(1, 1, 4, { dilation = 3 }))
    net[2] = nn.Identity()
    local report = net:check { 1, 1, 64 }
    local x = moon.rand(1, 1, 64, { requires_grad = true })
    local y = net(x)
    y[{ 1, 1, { 3 } }]:sum():backward()
    assert.equal(report.field[1], (function()
      local first, last
      for i = 1, 64 do
        if x.grad[{ 1, 1, i }] ~= 0 then first, last = first or i, i end
      end
      return last - first + 1
    end)())
  end)

  it("takes 16 to 11, 6 and 1 by width 6 and refuses a fourth", function()
    local function net(count)
      local layers = nn.Sequential()
      for _ = 1, count do layers:add(nn.Conv1d(1, 1, 6)) end
      return layers
    end
    local report = net(3):check { 1, 1, 16 }
    assert.is_true(report.ok)
    local lengths = {}
    for i, row in ipairs(report.rows) do lengths[i] = row.output[3] end
    assert.same({ 11, 6, 1 }, lengths)
    report = net(4):check { 1, 1, 16 }
    assert.is_false(report.ok)
    assert.equal("4", report.problems[1].name)
    assert.matches("Conv1d %(4%)", texts(report))
  end)

  it('keeps 16 at any depth with padding "same"', function()
    local net = nn.Sequential()
    for _ = 1, 20 do net:add(nn.Conv1d(1, 1, 6, { padding = "same" })) end
    local report = net:check { 1, 1, 16 }
    assert.is_true(report.ok)
    assert.same({ 1, 1, 16 }, report.output)
  end)

  it("charges a stride of s about 1/s^2, and sixteen 1x1 filters what they cost", function()
    local function bill(stride)
      return nn.Conv2d(8, 8, 3, { padding = 1, stride = stride }):check({ 1, 8, 64, 64 })
        .multiply_adds
    end
    assert.equal(bill(1), 4 * bill(2))
    assert.equal(bill(1), 16 * bill(4))
    local report = nn.Conv2d(192, 16, 1):check { 1, 192, 28, 28 }
    assert.same({ 1, 16, 28, 28 }, report.output)
    assert.equal(28 * 28 * 16 * 192, report.multiply_adds)
  end)

  it("lists every mismatch with the layer's name and goes on behind it", function()
    local net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(20),
      nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(100, 10), nn.ReLU())
    net:add("head", nn.Linear(7, 2))
    local report = net:check { 1, 3, 16, 16 }
    local names = {}
    for i, problem in ipairs(report.problems) do names[i] = problem.name end
    assert.same({ "2", "4", "5", "7", "head" }, names)
    assert.matches("batch_norm: .* 64 channels .* 32", report.problems[1].message)
    assert.matches("Linear %(head%)", texts(report))
    assert.same({ 1, 2 }, report.output)
    assert.is_true(report.rows[2].problem ~= nil and report.rows[3].problem == nil)
    assert.matches("! BatchNorm2d %(2%)", tostring(report))
    assert.matches("5 problems:", tostring(report))
  end)

  it("tells of a wrong type and goes on with the right one", function()
    local report = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)):check { 3, 5 }
    assert.equal(1, #report.problems)
    assert.matches("Embedding %(1%): embedding: index must be of an integer type", texts(report))
    assert.same({ 3, 5, 2 }, report.output)
    assert.is_true(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
      :check({ 3, 5, dtype = "int64" }).ok)
  end)

  it("names a mismatch inside a module's own forward, and goes on with its last output", function()
    local Net = nn.Module:extend "Net"
    function Net:init() self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3) end
    function Net:forward(x) return self.a(x) + self.b(x) end
    local report = nn.Sequential(Net(), nn.Conv2d(5, 2, 1)):check { 1, 3, 8, 8 }
    assert.equal(1, #report.problems)
    assert.matches("Net %(1%): add: shapes 1x4x6x6 and 1x5x6x6 do not broadcast", texts(report))
    assert.same({ 1, 2, 6, 6 }, report.output)
  end)

  it("ends where nothing tells the shape, and says so", function()
    local report = nn.Sequential(function(x) return x:view(7, -1) end, nn.Linear(4, 2))
      :check { 2, 4 }
    assert.matches("function %(1%): view: 8 elements do not fill", texts(report))
    assert.matches("what follows could not be checked", texts(report))
    assert.is_nil(report.output)
  end)

  it("says when a forward looks at elements", function()
    local Net = nn.Module:extend "Net"
    function Net:forward(x) return x:sum():item() > 0 and x or -x end
    assert.matches('item: this tensor is on the device "meta"', texts(Net():check { 2 }))
  end)

  it("takes several inputs, and layers with several results", function()
    local Pair = nn.Module:extend "Pair"
    function Pair:init() self.a, self.b = nn.Linear(4, 3), nn.LSTM(5, 3) end
    function Pair:forward(x, y) return self.a(x) + (self.b(y))[{ 1 }] end
    local report = Pair():check({ 2, 4 }, { 6, 2, 5 })
    assert.is_true(report.ok, texts(report))
    assert.same({ 2, 3 }, report.output)
    assert.equal(6 * 2 * 3 + 2 * 2 * 3, report.rows[2].activations)
  end)

  it("counts shared parameters once and work each time", function()
    local layer = nn.Linear(3, 3, { bias = false })
    local report = nn.Sequential(layer, layer):check { 2, 3 }
    assert.equal(9, report.parameters)
    assert.equal(2 * 18, report.multiply_adds)
  end)

  it("checks attention, recurrent and transformer layers", function()
    local net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, { feedforward = 16 }), 2)
    local report = net:check { 5, 3, 8 }
    assert.is_true(report.ok, texts(report))
    local total = 0
    for _, p in ipairs(net:parameters()) do total = total + p:numel() end
    assert.equal(total, report.parameters)
    assert.equal(4 * 5 * 3 * 8 * 8 + 2 * 2 * 3 * 5 * 5 * 4, report.rows[1].multiply_adds)
  end)

  it("leaves the network, its lazy layers and the random stream as they were", function()
    local net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Dropout(0.5),
      nn.Flatten(), nn.LazyLinear(2))
    net:register_forward_hook(function() error "hooks are not called" end)
    local before, stream = tostring(net), moon.get_rng_state():totable()
    local report = net:check { 2, 3, 6, 6 }
    assert.is_true(report.ok, texts(report))
    assert.equal(4 * 27 + 4 + 8 + 64 * 2 + 2, report.parameters)
    assert.equal(before, tostring(net))
    assert.same(stream, moon.get_rng_state():totable())
    assert.is_true(moon.is_lazy(net[1].weight) and net.training)
    assert.is_nil(rawget(net[3], "forward"))
    local plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    local weight, mean = plain[1].weight, plain[2].running_mean
    plain:check { 4, 3 }
    assert.is_true(plain[1].weight == weight and plain[2].running_mean == mean)
    assert.equal(0, mean:abs():sum():item())
    assert.same({ 4, 2 }, plain(moon.zeros(4, 3)):size())
  end)

  it("costs no memory", function()
    local net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    moon.collect()
    local before, peak = moon.memory().live, moon.memory().peak
    local report = net:check { 4096, 3, 1024, 1024 }
    assert.is_true(report.ok)
    assert.is_true(report.activations * 4 > 2 ^ 40)
    assert.is_true(moon.memory().live - before < 1e5 and moon.memory().peak == peak)
  end)

  it("refuses sizes that are none", function()
    local net = nn.Linear(2, 2)
    naive.fails("check: give the sizes of the input, as in net:check { 1, 3, 32, 32 }",
      net.check, net)
    naive.fails("check: input 1 must be a list of sizes such as {1, 3, 32, 32}, not 3",
      net.check, net, 3)
    naive.fails("sizes must be whole numbers, dtype a name; found 2 = 2.5", net.check, net,
      { 1, 2.5 })
    naive.fails("found 1 = -1", net.check, net, { -1 })
    naive.fails('found type = "int64"', net.check, net, { 1, type = "int64" })
    naive.fails("nn.check: the first argument is a module, not 3", nn.check, 3, { 1 })
    naive.fails("call it with a colon", net.check, { 1 })
    assert.is_true(nn.check(net, { 1, 2 }).ok)
  end)

  it("checks large networks at once", function()
    local net = nn.Sequential()
    for i = 1, 50 do net:add(nn.Conv2d(i == 1 and 3 or 32, 32, 3, { padding = 1 })) end
    local start = moon.clock()
    local report = net:check { 8, 3, 224, 224 }
    assert.is_true(report.ok and moon.clock() - start < 1)
  end)
end)
