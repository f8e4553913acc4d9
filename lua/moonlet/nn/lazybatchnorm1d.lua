-- LazyBatchNorm1d: a BatchNorm1d that counts its channels at the first forward.

--- nn.LazyBatchNorm1d(options).
-- @function nn.LazyBatchNorm1d(given)
-- @tparam ?table given as for BatchNorm1d
-- @usage local layer = moon.nn.LazyBatchNorm1d()
-- layer(moon.randn(2, 3, 4))
-- assert(layer.weight:size(1) == 3)
return require "moonlet.nn.lazybatchnorm"(require "moonlet.nn.batchnorm1d")
