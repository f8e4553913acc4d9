-- LogSoftmax: y_i = x_i - log sum_j exp(x_j) along one dimension, the last unless given.

--- nn.LogSoftmax(dim = -1).
-- @function nn.LogSoftmax(dim)
-- @usage assert(moon.nn.LogSoftmax()(moon.zeros(2, 4)):size(2) == 4)
return require "moonlet.nn.along_dim"("LogSoftmax", "log_softmax", -1)
