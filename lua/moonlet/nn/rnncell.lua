-- RNNCell: one step of RNN, h' = tanh(w_ih x + b_ih + w_hh h + b_hh), or relu (Elman 1990).

--- One step: h = cell(x, h).
-- @function RNNCell
-- @int inputs features of x
-- @int hidden features of the state
-- @tparam ?table given nonlinearity = "tanh" or "relu", bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- assert(moon.nn.RNNCell(4, 3)(moon.zeros(2, 4)):size(2) == 3)
return require "moonlet.nn.cell"("RNNCell", "rnn_cell", 1,
  { nonlinearity = { { "tanh", "relu" }, "tanh" } })
