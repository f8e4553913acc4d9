-- BatchNorm1d: batch normalisation of features. x (n, c) or (n, c, length); see batchnorm.lua.

--- A layer that normalises each channel over the batch.
-- @function nn.BatchNorm1d(channels, given)
-- @int channels of x
-- @tparam ?table given eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true,
-- dtype = "float32"
-- @usage assert(moon.nn.BatchNorm1d(3)(moon.randn(2, 3)):mean():abs():item() < 1e-4)
return require "moonlet.nn.batchnorm"("BatchNorm1d", { [2] = true, [3] = true },
  "(n, channels) or (n, channels, length)")
