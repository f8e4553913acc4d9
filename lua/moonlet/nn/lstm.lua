-- LSTM: long short-term memory; c' = f c + i g, h' = o tanh(c') with gates i, f, g, o of the input
-- and h (Hochreiter and Schmidhuber 1997; Gers et al. 2000). Shapes: recurrent.lua.

--- A recurrent network: out, h_n, c_n = net(x, h0, c0, { lengths = {...} }); all but x may be left
-- out.
-- @function LSTM
-- @int inputs features of x
-- @int hidden features of the state
-- @tparam ?table given layers = 1, bias = true, batch_first = false, dropout = 0 (between layers),
-- bidirectional = false, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local net = moon.nn.LSTM(4, 3, { bidirectional = true })
-- local out, h, c = net(moon.zeros(5, 2, 4), { lengths = { 5, 3 } })
-- assert(out:size(3) == 6 and h:size(1) == 2 and c:size(3) == 3)
return require "moonlet.nn.recurrent"("LSTM", "lstm", 4)
