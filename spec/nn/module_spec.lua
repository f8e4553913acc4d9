-- Module: finding parameters, modes, types, and how it is shown and called.
local moon = require "moonlet"
local nn = moon.nn

local Net = nn.Module:extend "Net"

function Net:init()
  self.first = nn.Linear(3, 4)
  self.scale = nn.Parameter(moon.ones(4))
  self.blocks = { nn.Linear(4, 4), extra = nn.Linear(4, 4, { bias = false }) }
  self:register_buffer("count", moon.zeros(1))
  self.title = "a net"
end

function Net:forward(x) return self.first(x):relu():mul(self.scale) end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return list
end

local function copy_state(module)
  local state = {}
  for name, tensor in pairs(module:state_dict()) do state[name] = tensor:clone() end
  return state
end

describe("Module", function()
  it("finds parameters in the order of assignment, also in plain tables", function()
    assert.same({
      "first.weight", "first.bias", "scale", "blocks.1.weight", "blocks.1.bias",
      "blocks.extra.weight",
    }, names(Net():named_parameters()))
  end)

  it("finds buffers and modules", function()
    assert.same({ "count" }, names(Net():named_buffers()))
    assert.same({ "", "first", "blocks.1", "blocks.extra" }, names(Net():named_modules()))
    assert.equal(3, #Net():children())
  end)

  it("counts a shared parameter once, but saves it under both names", function()
    local net = Net()
    net.blocks[2] = net.first
    assert.equal(6, #net:parameters())
    local state = net:state_dict()
    assert.is_not_nil(state["blocks.2.weight"])
    assert.is_not_nil(state["first.weight"])
  end)

  it("is called with forward's arguments", function()
    assert.same({ 2, 4 }, Net()(moon.zeros(2, 3)):size())
  end)

  it("goes on knowing a parameter that is frozen", function()
    local net = Net()
    net:requires_grad_(false)
    assert.equal(6, #net:parameters())
    assert.is_false(net.scale.requires_grad)
    net:requires_grad_(true)
    assert.is_true(net.scale.requires_grad)
  end)

  it("does not take an activation for a parameter", function()
    local Keeper = nn.Module:extend "Keeper"
    function Keeper:init() self.fc = nn.Linear(2, 2) end
    function Keeper:forward(x)
      self.seen = self.fc(x)
      return self.seen
    end
    local net = Keeper()
    net(moon.ones(1, 2))
    assert.equal(2, #net:parameters())
    assert.equal(2, net.seen:size(2))
  end)

  it("switches training mode all the way down", function()
    local net = Net()
    net:eval()
    assert.is_false(net.training)
    assert.is_false(net.blocks.extra.training)
    net:train()
    assert.is_true(net.blocks[1].training)
  end)

  it("drops gradients", function()
    local net = Net()
    net(moon.ones(2, 3)):sum():backward()
    assert.is_not_nil(net.scale.grad)
    net:zero_grad()
    assert.is_nil(net.scale.grad)
  end)

  it("applies a function to children before their parent", function()
    local seen = {}
    nn.Sequential(nn.Linear(1, 1), nn.ReLU()):apply(function(m) seen[#seen + 1] = m.class_name end)
    assert.same({ "Linear", "ReLU", "Sequential" }, seen)
  end)

  it("shows its tree", function()
    local text = tostring(nn.Sequential(nn.Conv2d(1, 2, 3, { padding = 1 }), moon.relu,
      nn.Sequential(nn.Dropout(0.25))))
    assert.equal([[
Sequential(
  (1): Conv2d(1, 2, 3, padding = 1)
  (2): function
  (3): Sequential(
    (1): Dropout(0.25)
  )
)]], text)
  end)

  it("converts to another type", function()
    local net = Net():double()
    assert.equal("float64", net.first.weight.dtype)
    assert.equal("float64", net.count.dtype)
    assert.is_true(net.first.weight.requires_grad)
    assert.equal("float64", net(moon.ones(1, 3, { dtype = "float64" })).dtype)
    assert.equal("float32", net:float().scale.dtype)
  end)

  it("recognises its methods called with a dot", function()
    local net = Net()
    for _, method in ipairs { "parameters", "eval", "state_dict", "children", "zero_grad" } do
      local _, message = pcall(net[method])
      assert.matches(method .. ": call it with a colon, net:" .. method .. "%(%)", message)
    end
  end)

  it("says so when there is no forward", function()
    local Empty = nn.Module:extend "Empty"
    local _, message = pcall(function() return Empty()(1) end)
    assert.matches("Empty: has no forward yet", message)
  end)
end)

describe("a state dictionary", function()
  it("brings one net's values into another", function()
    local a, b = Net(), Net()
    b:load_state_dict(copy_state(a))
    local x = moon.randn(2, 3)
    assert.equal(0, a(x):sub(b(x)):abs():max():item())
  end)

  it("lists missing, unexpected and unlike names and changes nothing", function()
    local net = Net()
    local before, state = net.first.weight:clone(), copy_state(net)
    state["first.weight"] = state["first.weight"]:add(1)
    state["first.bias"] = moon.zeros(5)
    state.scale = nil
    state.other = moon.zeros(1)
    local _, message = pcall(net.load_state_dict, net, state)
    assert.matches("missing: scale", message)
    assert.matches("unexpected: other", message)
    assert.matches("first.bias %(4 here, 5 there%)", message)
    assert.equal(0, net.first.weight:sub(before):abs():max():item())
  end)

  it("may be incomplete when not strict", function()
    local net = Net()
    net:load_state_dict({ scale = moon.full({ 4 }, 7), other = moon.zeros(1) }, false)
    assert.equal(7, net.scale[1])
  end)

  it("goes through a file", function()
    local path = os.tmpname()
    local a, b = Net(), Net()
    a.count:fill_(5)
    a:save(path, { note = "hello" })
    local same, metadata = b:load(path)
    os.remove(path)
    assert.equal(b, same)
    assert.equal("hello", metadata.note)
    assert.equal(5, b.count[1])
    assert.equal(0, a.first.weight:sub(b.first.weight):abs():max():item())
  end)
end)
