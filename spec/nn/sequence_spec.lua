-- Layers for sequences: their parameters, wiring and refusals. What they calculate is witnessed at
-- their operators (spec/cases/sequence.lua) and, for the transformer, spec/cases/transformer.lua.
local moon = require "moonlet"
local naive = require "spec.support.naive"
local nn = moon.nn

local function whole(list) return moon.tensor(list, { dtype = "int64" }) end

local function names_of(net)
  local list = {}
  for name in net:named_parameters() do list[#list + 1] = name end
  return list
end

describe("Embedding", function()
  it("reads rows and keeps its padding row at 0", function()
    local net = nn.Embedding(5, 3, { padding_index = -1 })
    assert.equal(0, net.weight:select(1, 5):abs():sum():item())
    naive.close(net(whole { 2, 5 }), moon.stack { net.weight:select(1, 2), moon.zeros(3) })
    net(whole { 2, 5 }):sum():backward()
    assert.equal(3, net.weight.grad:sum():item())
    assert.equal(0, net.weight.grad:select(1, 5):abs():sum():item())
  end)

  it("scales down rows above max_norm when they are read", function()
    local net = nn.Embedding(4, 2, { max_norm = 1, dtype = "float64" })
    moon.no_grad(net.weight.fill_, net.weight, 3)
    local y = net(whole { 1, 3, 3 })
    naive.close(y:norm(2, { 2 }), { 1, 1, 1 }, 1e-6)
    naive.close(net.weight:select(1, 2), { 3, 3 })
    y:sum():backward()
    naive.close(net.weight.grad, { { 1, 1 }, { 0, 0 }, { 2, 2 }, { 0, 0 } })
  end)

  it("refuses bad options", function()
    naive.fails("padding_index must be a row from 1 to 4 or count from the end, not 5",
      nn.Embedding, 4, 2, { padding_index = 5 })
    naive.fails("Embedding: max_norm must be above 0, not 0", nn.Embedding, 4, 2, { max_norm = 0 })
    naive.fails("Embedding: rows must be a whole number from 1, not 0", nn.Embedding, 0, 2)
    naive.fails('EmbeddingBag: mode must be one of "sum", "mean", "max", not "median"',
      nn.EmbeddingBag, 4, 2, { mode = "median" })
  end)
end)

describe("EmbeddingBag", function()
  it("passes its options on", function()
    local net = nn.EmbeddingBag(5, 3, { mode = "sum", include_last_offset = true })
    local index, offsets, weights = whole { 1, 2, 3 }, whole { 1, 3, 4 }, moon.rand(3)
    naive.close(net(index, offsets, weights), moon.embedding_bag(net.weight, index, offsets, "sum",
      weights, nil, true))
    assert.same({ 2, 3 }, net(index, offsets):size())
  end)
end)

describe("recurrent layers", function()
  local x = moon.randn(5, 2, 4)

  it("name their parameters as PyTorch does", function()
    assert.same({
      "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
      "weight_ih_l0_reverse", "weight_hh_l0_reverse", "bias_ih_l0_reverse", "bias_hh_l0_reverse",
      "weight_ih_l1", "weight_hh_l1", "bias_ih_l1", "bias_hh_l1",
      "weight_ih_l1_reverse", "weight_hh_l1_reverse", "bias_ih_l1_reverse", "bias_hh_l1_reverse",
    }, names_of(nn.LSTM(4, 3, { layers = 2, bidirectional = true })))
    local net = nn.GRU(4, 3, { layers = 2, bias = false })
    assert.same({ "weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1" }, names_of(net))
    assert.same({ 9, 4 }, net.weight_ih_l0:size())
    assert.same({ 9, 3 }, net.weight_ih_l1:size())
    assert.same({ 12, 6 },
      nn.LSTM(4, 3, { layers = 2, bidirectional = true }).weight_ih_l1:size())
    assert.same({ "weight_ih", "weight_hh", "bias_ih", "bias_hh" }, names_of(nn.LSTMCell(4, 3)))
  end)

  it("calculate what their operators do", function()
    local lstm = nn.LSTM(4, 3, { layers = 2, bidirectional = true })
    local h0, c0 = moon.randn(4, 2, 3), moon.randn(4, 2, 3)
    local out, h, c = lstm(x, h0, c0, { lengths = { 5, 2 } })
    local out2, h2, c2 = moon.lstm(x, lstm:weights(), h0, c0,
      { layers = 2, bidirectional = true, lengths = whole { 5, 2 } })
    naive.close(out, out2)
    naive.close(h, h2)
    naive.close(c, c2)
    local gru = nn.GRU(4, 3, { batch_first = true })
    naive.close(gru(x), moon.gru(x, gru:weights(), { batch_first = true }))
    local rnn = nn.RNN(4, 3, { nonlinearity = "relu", bias = false })
    naive.close(rnn(x), moon.rnn(x, rnn:weights(), { nonlinearity = "relu", bias = false }))
  end)

  it("take lengths as a list or a tensor, with or without states", function()
    local net = nn.GRU(4, 3)
    local a = net(x, { lengths = { 2, 5 } })
    naive.close(net(x, moon.zeros(1, 2, 3), { lengths = whole { 2, 5 } }), a)
    assert.equal(0, a[{ { 3, 5 }, 1 }]:abs():sum():item())
    naive.fails('there is no option "length", did you mean "lengths"?', net, x, { length = 2 })
  end)

  it("drop between layers while training only", function()
    local net = nn.LSTM(4, 3, { layers = 2, dropout = 0.5 })
    local y = net(x)
    assert.is_true((net(x) - y):abs():max():item() > 0)
    net:eval()
    naive.close(net(x), (net(x)))
  end)

  it("step alike as cells", function()
    local net, cell = nn.LSTM(4, 3), nn.LSTMCell(4, 3)
    local renamed = {}
    for name, tensor in pairs(net:state_dict()) do renamed[name:gsub("_l0$", "")] = tensor end
    cell:load_state_dict(renamed)
    local h, c
    for t = 1, 5 do h, c = cell(x:select(1, t), h, c) end
    local _, h_n, c_n = net(x)
    naive.close(h, h_n:select(1, 1), 1e-5)
    naive.close(c, c_n:select(1, 1), 1e-5)
    assert.same({ 3 }, nn.RNNCell(4, 3, { nonlinearity = "relu" })(moon.randn(4)):size())
    assert.same({ 2, 3 }, nn.GRUCell(4, 3, { bias = false })(moon.randn(2, 4)):size())
  end)

  it("start uniform in +-1/sqrt(hidden), and are saved", function()
    local net = nn.GRU(4, 16)
    for _, p in ipairs(net:parameters()) do
      assert.is_true(p:abs():max():item() <= 0.25 and p:abs():max():item() > 0.15)
    end
    local other = nn.GRU(4, 16)
    other:load_state_dict(net:state_dict())
    naive.close(other(x), net(x))
    assert.equal("float64", net:double()(x:double()).dtype)
  end)

  it("refuse bad options", function()
    naive.fails("LSTM: hidden must be a whole number from 1, not nil", nn.LSTM, 4)
    naive.fails("GRU: dropout must be from 0 up to but not including 1, not 1", nn.GRU, 4, 3,
      { dropout = 1 })
    naive.fails('there is no option "layer", did you mean "layers"?', nn.LSTM, 4, 3, { layer = 2 })
    naive.fails('RNN: nonlinearity must be one of "tanh", "relu"', nn.RNN, 4, 3,
      { nonlinearity = "sine" })
  end)

  it("print what they are", function()
    assert.equal("LSTM(4, 3, layers = 2, bidirectional = true)",
      tostring(nn.LSTM(4, 3, { layers = 2, bidirectional = true })))
    assert.equal('RNN(4, 3, nonlinearity = "relu")',
      tostring(nn.RNN(4, 3, { nonlinearity = "relu" })))
  end)
end)

describe("MultiheadAttention", function()
  local x = moon.randn(3, 2, 8)

  it("calculates what its operator does, with PyTorch's names", function()
    local net = nn.MultiheadAttention(8, 2)
    local names = names_of(net)
    table.sort(names)
    assert.same({ "in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight" }, names)
    local mask = moon.zeros(3, 3, { dtype = "bool" })
    local y, weights = net(x, x, x, { mask = mask, causal = true, need_weights = true })
    local y2, weights2 = moon.multi_head_attention(x, x, x, 2, net.in_proj_weight,
      net.out_proj.weight, net.in_proj_bias, net.out_proj.bias,
      { causal = true, need_weights = true })
    naive.close(y, y2)
    naive.close(weights, weights2)
  end)

  it("takes key padding and drops weights while training", function()
    local net = nn.MultiheadAttention(8, 2, { dropout = 0.5, batch_first = true, bias = false })
    local padding = moon.zeros(3, 2, { dtype = "bool" })
    padding[{ 1, 2 }] = true
    assert.is_nil(net.in_proj_bias)
    assert.is_true((net(x, x, x) - net(x, x, x)):abs():max():item() > 0)
    net:eval()
    local _, weights = net(x, x, x, { key_padding_mask = padding, need_weights = true })
    naive.close(weights[{ 1 }], { { 1, 0 }, { 1, 0 } })
  end)

  it("refuses heads that do not divide", function()
    naive.fails("MultiheadAttention: heads = 3 must divide the width 8",
      nn.MultiheadAttention, 8, 3)
  end)
end)

describe("PositionalEncoding", function()
  it("adds the sinusoids along the steps", function()
    local e = moon.positional_encoding(3, 4)
    local x = moon.randn(3, 2, 4)
    naive.close(nn.PositionalEncoding(4)(x), x + e:unsqueeze(2))
    naive.close(nn.PositionalEncoding(4)(x:select(2, 1)), x:select(2, 1) + e)
    local turned = x:transpose(1, 2)
    naive.close(nn.PositionalEncoding(4, { batch_first = true })(turned), turned + e)
    naive.fails("PositionalEncoding: width must be even, not 3", nn.PositionalEncoding, 3)
  end)
end)

describe("transformer layers", function()
  local x = moon.randn(5, 2, 8)

  it("stack copies that start alike and learn apart", function()
    local first = nn.TransformerEncoderLayer(8, 2, { feedforward = 16, dropout = 0 })
    local net = nn.TransformerEncoder(first, 2, { norm = nn.LayerNorm(8) })
    assert.equal(2 * 12 + 2, #net:parameters())
    naive.close(net(x, { causal = true }),
      net.norm(first(first(x, { causal = true }), { causal = true })), 1e-5)
    net(x):sum():backward()
    assert.is_true(net.layers[2].linear1.weight ~= first.linear1.weight)
    assert.is_not_nil(net.layers[2].linear1.weight.grad)
  end)

  it("takes masks and any activation", function()
    local padding = moon.zeros(2, 5, { dtype = "bool" })
    local net = nn.TransformerEncoderLayer(8, 2, {
      feedforward = 16, dropout = 0, activation = function(y) return y:tanh() end })
    padding[{ 2, 5 }] = true
    local y = net(x, { key_padding_mask = padding })
    naive.close(y[{ {}, 2 }][{ { 1, 4 } }], net(x[{ { 1, 4 } }])[{ {}, 2 }], 1e-4)
    naive.fails('activation must be "relu", "gelu" or a function, not "sine"',
      nn.TransformerEncoderLayer, 8, 2, { activation = "sine" })
    naive.fails('there is no option "masks", did you mean "mask"?', net, x, { masks = padding })
  end)
end)
