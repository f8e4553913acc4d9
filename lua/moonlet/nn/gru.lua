-- GRU: gated recurrent units; h' = (1 - z) n + z h, n = tanh(w_in x + b_in + r (w_hn h + b_hn))
-- (Cho et al. 2014). Shapes: recurrent.lua.

--- A recurrent network: out, h_n = net(x, h0, { lengths = {...} }); all but x may be left out.
-- @function GRU
-- @int inputs features of x
-- @int hidden features of the state
-- @tparam ?table given layers = 1, bias = true, batch_first = false, dropout = 0 (between layers),
-- bidirectional = false, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local out, h = moon.nn.GRU(4, 3, { layers = 2, batch_first = true })(moon.zeros(2, 5, 4))
-- assert(out:size(2) == 5 and h:size(1) == 2)
return require "moonlet.nn.recurrent"("GRU", "gru", 3)
