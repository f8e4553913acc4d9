-- Datasets, transforms and the loader. A dataset answers d:size() and d:get(i); a plain array table
-- is one too. data.FashionMNIST is data/fashionmnist.lua.

return require "moonlet.lazy"("moonlet.data")
