-- Networks ready to build: models.vgg { config = "A" }, models.resnet { depth = 20 }. Their
-- parameters have torchvision's names, but numbers count from 1: its features.0.weight is
-- features.1.weight here.

return require "moonlet.lazy"("moonlet.models")
