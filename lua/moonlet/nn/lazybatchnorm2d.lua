-- LazyBatchNorm2d: a BatchNorm2d that counts its channels at the first forward.

--- nn.LazyBatchNorm2d(options).
-- @function nn.LazyBatchNorm2d(given)
-- @tparam ?table given as for BatchNorm2d
-- @usage local layer = moon.nn.LazyBatchNorm2d()
-- layer(moon.randn(2, 3, 4, 4))
-- assert(layer.weight:size(1) == 3)
return require "moonlet.nn.lazybatchnorm"(require "moonlet.nn.batchnorm2d")
