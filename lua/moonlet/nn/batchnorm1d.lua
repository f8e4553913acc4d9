-- BatchNorm1d: batch normalisation of features. x (n, c) or (n, c, length); see batchnorm.lua.

return require "moonlet.nn.batchnorm"("BatchNorm1d", { [2] = true, [3] = true },
  "(n, channels) or (n, channels, length)")
