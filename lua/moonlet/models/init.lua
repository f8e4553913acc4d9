-- Networks ready to build: models.vgg { config = "A" }, models.resnet { depth = 20 }.

return require "moonlet.lazy"("moonlet.models")
