-- RNN: h' = tanh(w_ih x + b_ih + w_hh h + b_hh), or relu, step by step through layers in one or two
-- directions (Elman 1990). Shapes: recurrent.lua.

--- A recurrent network: out, h_n = net(x, h0, { lengths = {...} }); all but x may be left out.
-- @function RNN
-- @int inputs features of x
-- @int hidden features of the state
-- @tparam ?table given nonlinearity = "tanh" or "relu", layers = 1, bias = true,
-- batch_first = false, dropout = 0 (between layers), bidirectional = false, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local out, h = moon.nn.RNN(4, 3)(moon.zeros(5, 2, 4))
-- assert(out:size(3) == 3 and h:size(1) == 1)
return require "moonlet.nn.recurrent"("RNN", "rnn", 1,
  { nonlinearity = { { "tanh", "relu" }, "tanh" } })
