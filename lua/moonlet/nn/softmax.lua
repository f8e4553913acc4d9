-- Softmax: y_i = exp(x_i) / sum_j exp(x_j) along one dimension, the last unless given.

--- nn.Softmax(dim = -1).
-- @function nn.Softmax(dim)
-- @usage assert(moon.nn.Softmax()(moon.zeros(2, 4)):size(2) == 4)
return require "moonlet.nn.along_dim"("Softmax", "softmax", -1)
