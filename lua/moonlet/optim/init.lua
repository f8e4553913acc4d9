-- Optimisers, learning-rate schedules, gradient clipping: optim.SGD is optim/sgd.lua, optim.StepLR
-- optim/steplr.lua.

return require "moonlet.lazy"("moonlet.optim", {
  aliases = { RMSProp = "rmsprop" },   -- as the lecture that presented it writes it
})
