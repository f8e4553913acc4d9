-- InstanceNorm3d: instance normalisation. x (n, c, depth, height, width); see instancenorm.lua.

--- nn.InstanceNorm3d(channels, options).
-- @function nn.InstanceNorm3d(channels, given)
-- @int channels of x
-- @tparam ?table given eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false,
-- dtype = "float32"
-- @usage assert(moon.nn.InstanceNorm3d(3)(moon.randn(2, 3, 4, 4, 4)):mean():abs():item() < 1e-4)
return require "moonlet.nn.instancenorm"("InstanceNorm3d", 5,
  "(n, channels, depth, height, width)")
