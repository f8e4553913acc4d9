-- L1Loss: |x - y|, mean over all elements.

return require "moonlet.nn.loss"("L1Loss", "l1_loss")
