-- LSTMCell: one step of LSTM (Hochreiter and Schmidhuber 1997).

--- One step: h, c = cell(x, h, c).
-- @function LSTMCell
-- @int inputs features of x
-- @int hidden features of the state
-- @tparam ?table given bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local h, c = moon.nn.LSTMCell(4, 3)(moon.zeros(2, 4))
-- assert(h:size(2) == 3 and c:size(2) == 3)
return require "moonlet.nn.cell"("LSTMCell", "lstm_cell", 4)
