-- GRUCell: one step of GRU (Cho et al. 2014).

--- One step: h = cell(x, h).
-- @function GRUCell
-- @int inputs features of x
-- @int hidden features of the state
-- @tparam ?table given bias = true, dtype = "float32"
-- @usage local moon = require "moonlet"
-- assert(moon.nn.GRUCell(4, 3)(moon.zeros(2, 4)):size(2) == 3)
return require "moonlet.nn.cell"("GRUCell", "gru_cell", 3)
