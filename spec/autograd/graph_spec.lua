-- moon.graph: the structure of the picture, its names, that its text is always the same, and that
-- it takes any depth.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local nn = moon.nn
local million = os.getenv("MOONLET_SANITIZER") and 30000 or 1000000   -- else gigabytes

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return lines
end

describe("moon.graph", function()
  it("draws operators, leaves and what goes where", function()
    local x = moon.ones(2, 3, { requires_grad = true })
    local y = (x * 2):sum()
    assert.same({
      "digraph tape {",
      "  rankdir=BT;",
      '  n1 [shape=box, label="sum\\n0-d"];',
      '  n2 [shape=box, label="mul\\n2x3"];',
      '  n3 [shape=ellipse, style=filled, label="leaf\\n2x3 float32"];',
      "  n2 -> n1;",
      "  n3 -> n2;",
      "}",
    }, lines_of(moon.graph(y)))
  end)

  it("draws what is used twice once, with two arrows", function()
    local x = moon.ones(2, { requires_grad = true })
    local text = moon.graph(x * x)
    assert.equal(2, select(2, text:gsub("n2 %-> n1;", "")))
    assert.equal(2, select(2, text:gsub("label", "")))
  end)

  it("names parameters, and is the same text every time", function()
    local function text()
      moon.manual_seed(1)
      local net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
      return moon.graph(net(moon.ones(2, 3)):mean(), { parameters = net })
    end
    local once = text()
    collectgarbage()
    assert.equal(once, text())
    for _, name in ipairs { "1.weight", "1.bias", "3.weight", "3.bias" } do
      assert.equal(1, select(2, once:gsub('label="' .. name:gsub("%p", "%%%0") .. "\\n", "")), name)
    end
    assert.is_nil(once:find("leaf", 1, true))
  end)

  it("takes names from a table, and escapes them", function()
    local x = moon.ones(1, { requires_grad = true })
    local text = moon.graph(x, { parameters = { ['a "b" \\ c\nd'] = x } })
    assert.is_truthy(text:find([[label="a \"b\" \\ c\nd\n1 float32"]], 1, true))
    assert.equal(4, #lines_of(text))
  end)

  it("shows each result that was used, functions by name, and results of lists", function()
    local Twin = moon.Function:extend 'Twin "x"'
    function Twin.forward(_, x) return x * 1, x[{ { 1, 2 } }] end
    function Twin.backward(_, g) return g end
    local x = moon.ones(3, { requires_grad = true })
    local a, b = Twin(x)
    local text = moon.graph(a:sum() + b:sum())
    assert.is_truthy(text:find([[label="Twin \"x\"\n3, 2"]], 1, true))
  end)

  it("cuts a chain of a million operators, and says so", function()
    local y = moon.ones(1, { requires_grad = true })
    for _ = 1, million do y = y * 1 end
    local lines = lines_of(moon.graph(y))
    assert.equal(2 + 1000 + 999 + 2 + 1, #lines)
    assert.equal('  more [shape=note, label="cut at 1000; give {limit = ...} for more"];',
      lines[#lines - 1])
    assert.equal("  more -> n1000 [style=dashed];", lines[#lines - 2])
    local more = moon.graph(y, { limit = 20000 })
    assert.equal(20001, select(2, more:gsub("label", "")))
  end)

  it("refuses what it cannot draw", function()
    naive.fails("graph: this tensor requires no gradient, so it is on no tape", moon.graph,
      moon.ones(1))
    naive.fails("graph: loss must be a tensor, got number", moon.graph, 3)
    local x = moon.ones(1, { requires_grad = true })
    naive.fails("graph: limit must be a whole number from 1, not 0", moon.graph, x, { limit = 0 })
    naive.fails('graph: there is no option "names"', moon.graph, x, { names = {} })
    naive.fails("graph: parameters must be a module or a table of tensors by name, got 3",
      moon.graph, x, { parameters = 3 })
    naive.fails("graph: parameters must be a module or a table of tensors by name, got 7 under ",
      moon.graph, x, { parameters = { a = 7 } })
  end)
end)
