-- Recurrent networks by cuDNN: that it has them, with what gradients, and what happens where it has
-- not. Without a GPU a stand-in ends the process at a wrong argument (spec/emulated/cudnn_rnn.cpp).
local libraries = require "spec.support.gpu_libraries"
local moon = require "moonlet"
local case = require "spec.support.case"
local faults = require "spec.support.faults"
local naive = require "spec.support.naive"
local witnesses = require "spec.support.witnesses"
local nn = moon.nn

if libraries.absent then return end

local device, chosen = libraries.device, libraries.chosen
local gates = { rnn = 1, lstm = 4, gru = 3 }
local descriptors = {}
for _, descriptor in ipairs(moon.operators()) do descriptors[descriptor.name] = descriptor end

local function random(shape, seed, dtype)
  return naive.random(shape, { seed = seed, low = -0.7, high = 0.7, dtype = dtype })
end

-- A problem: `call` of moon, its options, and tensors by the names of what they are.
local function problem(given)
  local p = {
    call = given.call or "lstm", layers = given.layers or 1, bias = given.bias ~= false,
    bidirectional = given.bidirectional or false, batch_first = given.batch_first or false,
    nonlinearity = given.nonlinearity, lengths = given.lengths, dtype = given.dtype or "float64",
    dropout = given.dropout,
  }
  local steps, n, inputs, hidden = 5, 3, 4, given.hidden or 6
  local directions = p.bidirectional and 2 or 1
  p.x = random(p.batch_first and { n, steps, inputs } or { steps, n, inputs }, 1, p.dtype)
  p.weights = {}
  for layer = 1, p.layers do
    for _ = 1, directions do
      local rows, width = gates[p.call] * hidden, layer == 1 and inputs or hidden * directions
      local shapes = { { rows, width }, { rows, hidden }, { rows }, { rows } }
      for k = 1, p.bias and 4 or 2 do
        p.weights[#p.weights + 1] = random(shapes[k], 10 + #p.weights, p.dtype)
      end
    end
  end
  for i, state in ipairs(given.states or {}) do
    p[state] = random({ p.layers * directions, n, hidden }, 2 + i, p.dtype)
  end
  return p
end

-- Leaves of the problem's tensors on a device, and its results as functions of them.
local function placed(p, where)
  local function leaf(t) return t and t:to(where):detach():clone():requires_grad_() end
  local at = { x = leaf(p.x), h0 = leaf(p.h0), c0 = leaf(p.c0), list = {}, leaves = {} }
  for k, w in ipairs(p.weights) do at.list[k] = leaf(w) end
  for _, name in ipairs { "x", "h0", "c0" } do
    if at[name] then at.leaves[#at.leaves + 1] = at[name] end
  end
  for _, w in ipairs(at.list) do at.leaves[#at.leaves + 1] = w end
  local options = {
    layers = p.layers, bias = p.bias, bidirectional = p.bidirectional, dropout = p.dropout,
    training = p.dropout ~= nil, batch_first = p.batch_first, nonlinearity = p.nonlinearity,
    lengths = p.lengths and moon.tensor(p.lengths, { dtype = "int64" }):to(where),
  }
  function at.run()
    if p.call == "lstm" then return moon.lstm(at.x, at.list, at.h0, at.c0, options) end
    return moon[p.call](at.x, at.list, at.h0, options)
  end
  return at
end

-- A number that every element of every result takes part in, each in its own way.
local function loss_of(...)
  local sum
  for i, y in ipairs { ... } do
    local weights = random(y.shape, 40 + i, y.dtype):to(y.device)
    local term = (y * weights):sum() + (y * y):sum()
    sum = sum and sum + term or term
  end
  return sum
end

-- Results and gradients of all leaves.
local function answers(p, where, loss)
  local at = placed(p, where)
  local found = { at.run() }
  for i, y in ipairs(found) do found[i] = y end
  local outputs = #found
  for i, g in ipairs(moon.grad((loss or loss_of)(at.run()), at.leaves, { allow_unused = true })) do
    found[outputs + i] = g
  end
  return found
end

local function agree(p, allowed, loss)
  local there
  local by = chosen(function() there = answers(p, device, loss) end)
  local here = answers(p, "cpu", loss)
  assert.are.equal(#here, #there)
  for i = 1, #here do naive.close(there[i]:detach():cpu(), here[i]:detach(), allowed or 1e-10) end
  return by.recurrent_layer
end

-- Who calculates a layer in this type: the library's documentation leaves bfloat16 open, and a
-- layer that it does not take is composed.
local function engine_of(dtype)
  if libraries.emulated or dtype ~= "bfloat16" then return "cudnn" end
  local p = problem { dtype = dtype }
  return chosen(function() placed(p, device).run() end).recurrent_layer
end

local function agrees_by_cudnn(given, allowed, loss)
  assert.are.equal("cudnn", agree(problem(given), allowed, loss))
end

describe("cuDNN's recurrent networks:", function()
  for _, entry in ipairs(case.family "sequence") do
    if gates[entry.operator] then
      it(entry.operator .. " agrees with the CPU", function()
        witnesses.device(entry, descriptors[entry.operator], device, not libraries.emulated)
      end)
    end
  end

  for _, kind in ipairs { "lstm", "gru", "rnn" } do
    local both = kind == "lstm" and { "h0", "c0" } or { "h0" }
    it(kind .. " has all gradients, of layers, directions, biases and states", function()
      agrees_by_cudnn { call = kind }
      agrees_by_cudnn { call = kind, bias = false, states = both }
      agrees_by_cudnn { call = kind, layers = 2, states = both, batch_first = true }
      agrees_by_cudnn { call = kind, bidirectional = true, states = both }
      agrees_by_cudnn { call = kind, layers = 2, bidirectional = true, bias = false }
    end)

    it(kind .. " ends sequences where they end", function()
      agrees_by_cudnn { call = kind, lengths = { 5, 2, 1 }, states = both }
      agrees_by_cudnn { call = kind, lengths = { 1, 4, 3 }, bidirectional = true, layers = 2 }
      agrees_by_cudnn { call = kind, lengths = { 2, 5, 2 }, batch_first = true, bias = false }
      agrees_by_cudnn { call = kind, lengths = { 5, 5, 5 } }
    end)

    it(kind .. " is there in every float type", function()
      agrees_by_cudnn({ call = kind, dtype = "float32", states = both }, 2e-5)
      for dtype, allowed in pairs { float16 = 2e-2, bfloat16 = 1.5e-1 } do
        local p = problem { call = kind, dtype = dtype, states = both }
        local y
        local by = chosen(function() y = placed(p, device).run() end)
        assert.are.equal(engine_of(dtype), by.recurrent_layer)
        naive.close(y:detach():cpu(), placed(p, "cpu").run():detach(), allowed, dtype)
      end
    end)

    it(kind .. "'s gradient has one of its own", function()
      local function second(where)
        local at = placed(problem { call = kind, lengths = { 4, 5, 2 }, states = both }, where)
        local first = moon.grad(loss_of(at.run()), at.leaves, { create_graph = true })
        local list = moon.grad(loss_of((table.unpack or unpack)(first)), at.leaves)
        return list
      end
      local there, here = second(device), second "cpu"
      for i = 1, #here do naive.close(there[i]:cpu(), here[i], 1e-9) end
    end)
  end

  it("take ReLU for tanh", function() agrees_by_cudnn { call = "rnn", nonlinearity = "relu" } end)

  it("need no gradient of all results", function()
    local states = { "h0", "c0" }
    agrees_by_cudnn({ states = states }, nil, function(out) return loss_of(out) end)
    agrees_by_cudnn({ states = states }, nil, function(_, h) return loss_of(h) end)
    agrees_by_cudnn({ states = states }, nil, function(_, _, c) return loss_of(c) end)
  end)

  it("give gradients of those alone that want one", function()
    local p = problem { bidirectional = true }
    local function some(where)
      local at = placed(p, where)
      at.x:requires_grad_(false)
      for k, w in ipairs(at.list) do w:requires_grad_(k == 2 or k == 7) end
      loss_of(at.run()):backward()
      assert.is_nil(at.x.grad)
      assert.is_nil(at.list[1].grad)
      return { at.list[2].grad, at.list[7].grad }
    end
    local there, here = some(device), some "cpu"
    for i = 1, 2 do naive.close(there[i]:cpu(), here[i], 1e-10) end
  end)

  it("give the same bits in each run", function()
    for _, kind in ipairs { "lstm", "gru", "rnn" } do
      local p = problem { call = kind, dtype = "float32", layers = 2, bidirectional = true,
        hidden = libraries.emulated and 6 or 256 }
      local first, again = answers(p, device), answers(p, device)
      for i = 1, #first do naive.close(again[i]:detach():cpu(), first[i]:detach():cpu(), 0) end
    end
  end)

  it("can go backward twice where that was asked for", function()
    local at = placed(problem { call = "gru" }, device)
    local loss = loss_of(at.run())
    local first = moon.grad(loss, at.leaves, { retain_graph = true })
    local again = moon.grad(loss, at.leaves)
    for i = 1, #first do naive.close(again[i]:cpu(), first[i]:cpu(), 0) end
  end)

  it("read tensors that lie anyhow", function()
    local p = problem { dtype = "float32" }
    local y = placed(p, "cpu").run():detach()
    local base = moon.zeros(1 + p.x:numel(), { device = device })
    local x = base[{ { 2, -1 } }]:view(p.x.shape)   -- not from 16 bytes on
    moon.no_grad(x.copy_, x, p.x:to(device))
    local list = {}
    for k, w in ipairs(p.weights) do
      list[k] = w:dim() == 2 and w:t():contiguous():to(device):t() or w:to(device)
    end
    naive.close(moon.lstm(x, list):cpu(), y, 2e-5)
  end)

  it("drop between layers what the CPU drops", function()
    local p = problem { layers = 2, dropout = 0.5 }
    moon.manual_seed(3)
    local here = placed(p, "cpu").run():detach()
    moon.manual_seed(3)
    naive.close(placed(p, device).run():detach():cpu(), here, 1e-10)
  end)

  it("multiply with TF32 where that is allowed, not under precise", function()
    local p = problem { dtype = "float32", hidden = 9 }
    local function run() return placed(p, device).run():detach():cpu() end
    local full = run()
    moon.cuda.tf32(true)
    local coarse = run()
    moon.precise(true)
    local precise = run()
    moon.precise(false)
    moon.cuda.tf32(false)
    naive.close(precise, full, 1e-6)
    naive.close(coarse, full, 1e-2)
    if libraries.emulated then   -- a GPU's may have no tensor cores for sizes this small
      assert.is_true((coarse - full):abs():max():item() > 1e-6)
    end
  end)

  local function goes_low(lengths)
    local p = problem { dtype = "float32", states = { "h0", "c0" }, lengths = lengths }
    local function run(where)
      local at, out = placed(p, where), nil
      local by = chosen(function() out = { moon.amp.autocast("bfloat16", at.run) } end)
      loss_of(out[1]:float()):backward()
      return out, at.leaves, by.recurrent_layer
    end
    local there, leaves, by = run(device)
    local here, expected = run "cpu"
    assert.are.equal(engine_of "bfloat16", by)
    for i = 1, 3 do
      naive.close(there[i]:detach():cpu(), here[i]:detach(), 5e-2, here[i].dtype)
    end
    for i = 1, #leaves do naive.close(leaves[i].grad:cpu(), expected[i].grad, 0.2, "float32") end
  end

  it("go in the low type under autocast, and their gradients come back in float32", function()
    goes_low()
    goes_low { 5, 2, 4 }
  end)

  it("stay within the workspace that is allowed, and out of what is empty", function()
    local before = moon.workspace_limit()
    moon.workspace_limit(0)
    local by = agree(problem {})
    moon.workspace_limit(before)
    assert.is_nil(by)
    local at = placed(problem {}, device)
    local none = moon.zeros(5, 0, 4, { dtype = "float64", device = device })
    local y
    assert.is_nil(chosen(function() y = moon.lstm(none, at.list) end).recurrent_layer)
    assert.are.same({ 5, 0, 6 }, y.shape)
  end)

  it("leak nothing when an allocation fails", function()
    local at = placed(problem { layers = 2, lengths = { 2, 5, 1 }, states = { "h0", "c0" } },
      device)
    faults.every_allocation(function()
      local y = at.run()
      for _, leaf in ipairs(at.leaves) do leaf.grad = nil end
      loss_of(y):backward()
      for _, leaf in ipairs(at.leaves) do leaf.grad = nil end
    end)
  end)
end)

-- -- in a graph

local Reader = nn.Module:extend "Reader"

function Reader:init(kind)
  self.recurrent = nn[kind](4, 6, { layers = 2, dropout = 0.3, batch_first = true })
  self.head = nn.Linear(6, 3)
end

function Reader:forward(x, lengths)
  return self.head((self.recurrent(x, nil, lengths and { lengths = lengths })):mean(2))
end

describe("a CUDA graph with a recurrent network", function()
  local function losses(wrap, kind)
    moon.manual_seed(2)
    local net = Reader(kind):cuda()
    local optimizer = moon.optim.Adam(net:parameters(), { lr = 1e-2 })
    local x = moon.zeros(3, 5, 4, { device = device })
    local labels = moon.ones(3, { dtype = "int64", device = device })
    local step = wrap(function()
      optimizer:zero_grad()
      local loss = moon.cross_entropy(net(x), labels)
      loss:backward()
      optimizer:step()
      return loss
    end)
    local list = {}
    for i = 1, 6 do
      moon.no_grad(x.copy_, x, random({ 3, 5, 4 }, i, "float32"):to(device))
      list[i] = step():item()
    end
    return list
  end

  for _, kind in ipairs { "LSTM", "GRU", "RNN" } do
    it("trains as without one, " .. kind, function()
      local eager, graph = losses(function(fn) return fn end, kind), losses(moon.cuda.graph, kind)
      for i = 1, #eager do assert.is_true(math.abs(eager[i] - graph[i]) < 1e-5) end
      assert.is_true(math.abs(eager[1] - eager[6]) > 1e-4)
    end)
  end

  it("composes those whose lengths it would have to read", function()
    local at = placed(problem { lengths = { 5, 1, 3 } }, device)
    local function go(run)
      local y
      for _ = 1, 3 do y = run() end
      return y
    end
    local y = go(moon.cuda.graph(function() return moon.no_grad(at.run) end))
    naive.close(y:cpu(), moon.no_grad(at.run):cpu(), 1e-10)
  end)
end)

-- -- where the library has not what is asked for

if not libraries.emulated then return end

describe("a recurrent network is composed", function()
  local piece = [[
    local x = moon.ones(4, 2, 3):to(device):requires_grad_()
    local list = { moon.ones(8, 3), moon.ones(8, 2), moon.ones(8), moon.ones(8) }
    for k, w in ipairs(list) do list[k] = w:to(device) end
    local function step()
      local y = moon.lstm(x, list)
      return moon.grad(y:sum(), x):sum():item()
    end
    local here = moon.ones(4, 2, 3):requires_grad_()
    for k, w in ipairs(list) do list[k] = w:cpu() end
    local expected = moon.grad(moon.lstm(here, list):sum(), here):sum():item()
    for k, w in ipairs(list) do list[k] = w:to(device) end
  ]]
  local function by_whom(environment)
    local output, well = libraries.run(piece .. [[
      local sum
      local by = chosen(function() sum = step() end).recurrent_layer
      assert(math.abs(sum - expected) < 1e-4)
      print(by)
    ]], environment)
    assert.is_true(well, output)
    return output
  end

  it("unless the library takes it", function()
    assert.are.equal("cudnn\n", by_whom {})
  end)

  for _, call in ipairs { "cudnnCreateRNNDescriptor fails", "cudnnCreateDropoutDescriptor fails",
      "cudnnCreateRNNDataDescriptor fails", "cudnnSetRNNDescriptor_v8 refuses",
      "cudnnSetRNNDataDescriptor refuses", "cudnnGetRNNTempSpaceSizes fails",
      "cudnnGetRNNWeightSpaceSize fails", "cudnnGetRNNWeightParams fails", "cudnnCreate fails",
      "cudnnRNNForward refuses" } do
    it("where " .. call, function()
      assert.are.equal("nil\n", by_whom { EMULATED_FAULT = call })
    end)
  end

  it("in bfloat16 by versions that have none of it", function()
    local output, well = libraries.run(piece .. [[
      local by = chosen(function() moon.autocast(step) end)
      print(by.recurrent_layer, by.linear)
    ]], { EMULATED_FAULT = "bfloat16 refuses" })
    assert.is_true(well, output)
    assert.are.equal("nil\tcublaslt\n", output)
  end)

  it("without asking again, where it was refused", function()
    local output, well = libraries.run(piece .. "step() step() step()",
      { EMULATED_FAULT = "cudnnRNNForward refuses", EMULATED_TRACE = 1 })
    assert.is_true(well, output)
    assert.are.equal(1, select(2, output:gsub("cudnnRNNForward", "")))
  end)

  it("once its gradient was refused, which is an error", function()
    local output, well = libraries.run(piece .. [[
      local ok, message = pcall(step)
      assert(not ok)
      print(message)
      print(math.abs(step() - expected) < 1e-4)
    ]], { EMULATED_FAULT = "cudnnRNNBackwardData_v8 refuses" })
    assert.is_true(well, output)
    assert.is_truthy(output:find("cuDNN refused the gradient of a recurrent", 1, true), output)
    assert.is_truthy(output:find "true\n$", output)
  end)

  for _, call in ipairs { "cudnnRNNForward", "cudnnRNNBackwardData_v8",
      "cudnnRNNBackwardWeights_v8" } do
    it("not where " .. call .. " fails: that is an error", function()
      local output, well = libraries.run(piece:gsub("requires_grad_%(%)", "%0", 1) .. [[
        for k, w in ipairs(list) do list[k] = w:requires_grad_() end
        moon.lstm(x, list):sum():backward()
      ]], { EMULATED_FAULT = call .. " fails" })
      assert.is_false(well)
      local sentence = call .. " failed on cuda:0: CUDNN_STATUS_EXECUTION_FAILED"
      assert.is_truthy(output:find(sentence, 1, true), output)
    end)
  end

  it("is planned once a shape", function()
    local output, well = libraries.run(piece .. "step() step() step()", { EMULATED_TRACE = 1 })
    assert.is_true(well, output)
    assert.are.equal(1, select(2, output:gsub("cudnnGetRNNTempSpaceSizes", "")))
    assert.are.equal(3, select(2, output:gsub("cudnnRNNForward", "")))
  end)
end)
