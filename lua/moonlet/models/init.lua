-- Networks ready to build: models.vgg { config = "A" }.

return require "moonlet.lazy"("moonlet.models")
