-- Layers, containers, losses and initialisers. nn.Conv2d is nn/conv2d.lua; layers that differ in an
-- operator's name alone share a file: activations, dropouts, losses, penalties. A new layer is a
-- new file, or a row there.
--
-- Files without a layer: module (what all layers are), parameter, walk (what a module holds), state
-- (its dictionary), hooks, copy; summary, check and thousands (tables for people); initialisers and
-- init_like_torch; functional; pair and shapes (options). What layers of a kind share: convolution,
-- lazyconvolution, locallyconnected; channel_norm, batchnorm, lazybatchnorm, instancenorm;
-- recurrent, cell; along_dim; reparametrized (weight_norm, spectral_norm).

return require "moonlet.lazy"("moonlet.nn", {
  families = { "activations", "dropouts", "losses", "penalties", "paddings", "poolings",
               "unpoolings", "fractionalpoolings", "pixelshuffles" },
  aliases = { init = "initialisers", Parameter = "parameter" },
})
