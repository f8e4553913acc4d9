-- Softmin: y_i = exp(-x_i) / sum_j exp(-x_j) along one dimension, the last unless given.

--- nn.Softmin(dim = -1).
-- @function nn.Softmin(dim)
-- @usage assert(moon.nn.Softmin()(moon.tensor { 1, 2 })[1] > 0.5)
return require "moonlet.nn.along_dim"("Softmin", "softmin", -1)
