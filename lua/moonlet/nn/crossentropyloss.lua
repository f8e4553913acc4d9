-- CrossEntropyLoss: -log softmax(logits)[label], mean over the batch.
-- logits (n, classes, ...), labels (n, ...) int64 from 1; options weight, ignore_index,
-- label_smoothing, reduction

return require "moonlet.nn.loss"("CrossEntropyLoss", "cross_entropy", {
  weight = { "tensor" }, ignore_index = { "integer" }, label_smoothing = { "number" },
})
