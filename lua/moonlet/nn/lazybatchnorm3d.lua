-- LazyBatchNorm3d: a BatchNorm3d that counts its channels at the first forward.

--- nn.LazyBatchNorm3d(options).
-- @function nn.LazyBatchNorm3d(given)
-- @tparam ?table given as for BatchNorm3d
-- @usage local layer = moon.nn.LazyBatchNorm3d()
-- layer(moon.randn(2, 3, 4, 4, 4))
-- assert(layer.weight:size(1) == 3)
return require "moonlet.nn.lazybatchnorm"(require "moonlet.nn.batchnorm3d")
