-- NLLLoss: -logp[label] of log probabilities, mean over the batch.
-- logp (n, classes, ...), labels (n, ...) int64 from 1

return require "moonlet.nn.loss"("NLLLoss", "nll_loss", {
  weight = { "tensor" }, ignore_index = { "integer" },
})
