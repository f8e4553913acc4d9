-- Measures of classifiers: metrics.accuracy, metrics.topk, metrics.ConfusionMatrix.

return require "moonlet.lazy"("moonlet.metrics")
