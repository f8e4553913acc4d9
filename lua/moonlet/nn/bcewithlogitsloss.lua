-- BCEWithLogitsLoss: -(y log s + (1 - y) log(1 - s)), s = sigmoid(x), computed without overflow.

return require "moonlet.nn.loss"("BCEWithLogitsLoss", "binary_cross_entropy_with_logits")
