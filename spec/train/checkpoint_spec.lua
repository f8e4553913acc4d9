-- Checkpoints of a training run: everything comes back exactly, or a sentence says why not.
local moon = require "moonlet"
local nn, optim = moon.nn, moon.optim
local checkpoint = moon.train.checkpoint

local path

describe("a checkpoint", function()
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("keeps plain values exactly", function()
    local values = {
      third = 1 / 3, big = 2 ^ 53, infinite = math.huge, negative = -math.huge, text = "a b\nc",
      yes = true, no = false, empty = "",
    }
    checkpoint.save(path, {}, values)
    assert.same(values, checkpoint.values(path))
    checkpoint.save(path, {}, { nan = 0 / 0 })
    local nan = checkpoint.values(path).nan
    assert.is_true(nan ~= nan)
  end)

  it("puts every part and the random stream back", function()
    local net = nn.Linear(3, 2)
    local opt = optim.Adam(net:parameters(), { lr = 0.25 })
    net(moon.randn(2, 3)):sum():backward()
    opt:step()
    checkpoint.save(path, { model = net, optimizer = opt })
    local expected = moon.rand(3):totable()
    local other = nn.Linear(3, 2)
    local other_opt = optim.Adam(other:parameters())
    checkpoint.load(path, { model = other, optimizer = other_opt })
    assert.same(expected, moon.rand(3):totable())
    assert.equal(0.25, other_opt:lr())
    assert.same(net.weight:totable(), other.weight:totable())
    assert.same(opt:state_dict()["state.1.second"]:totable(),
      other_opt:state_dict()["state.1.second"]:totable())
  end)

  it("says what is missing or foreign", function()
    checkpoint.save(path, {}, {})
    local _, message = pcall(checkpoint.load, path, { model = nn.Linear(1, 1) })
    assert.matches("the checkpoint holds no model", message)
    moon.save(path, { x = moon.zeros(1) })
    _, message = pcall(checkpoint.load, path, {})
    assert.matches("this is no checkpoint", message)
    _, message = pcall(checkpoint.save, path, {}, { bad = print })
    assert.matches("run.bad is a function", message)
  end)

  it("leaves the previous file when it cannot be written", function()
    checkpoint.save(path, {}, { epoch = 1 })
    assert.has_error(function() checkpoint.save(path, {}, { epoch = {} }) end)
    assert.equal(1, checkpoint.values(path).epoch)
  end)
end)
