-- The trainer and its parts: train.Trainer, train.checkpoint, train.Progress, train.Csv.

return require "moonlet.lazy"("moonlet.train")
