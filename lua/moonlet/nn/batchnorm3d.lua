-- BatchNorm3d: batch normalisation of volumes. x (n, c, d, h, w); see batchnorm.lua.

--- A layer that normalises each channel over the batch.
-- @function nn.BatchNorm3d(channels, given)
-- @int channels of x
-- @tparam ?table given eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true,
-- dtype = "float32"
-- @usage assert(moon.nn.BatchNorm3d(3)(moon.randn(2, 3, 4, 4, 4)):mean():abs():item() < 1e-4)
return require "moonlet.nn.batchnorm"("BatchNorm3d", { [5] = true },
  "(n, channels, depth, height, width)")
