-- MSELoss: (x - y)^2, mean over all elements.

return require "moonlet.nn.loss"("MSELoss", "mse_loss")
