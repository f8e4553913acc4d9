-- InstanceNorm1d: instance normalisation. x (n, c, length); see instancenorm.lua.

--- nn.InstanceNorm1d(channels, options).
-- @function nn.InstanceNorm1d(channels, given)
-- @int channels of x
-- @tparam ?table given eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false,
-- dtype = "float32"
-- @usage assert(moon.nn.InstanceNorm1d(3)(moon.randn(2, 3, 4)):mean():abs():item() < 1e-4)
return require "moonlet.nn.instancenorm"("InstanceNorm1d", 3,
  "(n, channels, length)")
