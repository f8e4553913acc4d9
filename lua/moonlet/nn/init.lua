-- Layers, containers, losses and initialisers. nn.Conv2d is nn/conv2d.lua; the simple activations
-- share nn/activations.lua. A new layer is a new file.

return require "moonlet.lazy"("moonlet.nn", {
  families = { "activations" },
  aliases = { init = "initialisers", Parameter = "parameter" },
})
