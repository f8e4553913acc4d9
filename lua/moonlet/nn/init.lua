-- Layers, containers, losses and initialisers. nn.Conv2d is nn/conv2d.lua; layers that differ in an
-- operator's name alone share a file: activations, dropouts, losses, penalties. A new layer is a
-- new file, or a row there.

return require "moonlet.lazy"("moonlet.nn", {
  families = { "activations", "dropouts", "losses", "penalties", "paddings", "poolings",
               "unpoolings", "fractionalpoolings", "pixelshuffles" },
  aliases = { init = "initialisers", Parameter = "parameter" },
})
