-- The smallest whole program: a convolutional network learns Fashion-MNIST (Debian's package
-- dataset-fashion-mnist) in an explicit loop. The first two lines find moonlet beside this script.

local here = (arg and arg[0] or ""):match("^(.*)[/\\]") or "."
package.path = here .. "/../?.lua;" .. package.path

local moon = require "moonlet"
local nn, optim, data = moon.nn, moon.optim, moon.data

local net = nn.Sequential(
  nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
  nn.Dropout(0.25), nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Dropout(0.5),
  nn.Linear(128, 10))

local train = data.FashionMNIST { split = "train" }
local loader = data.Loader(train, { batch = 128, shuffle = true, workers = 2 })
local opt = optim.Adam(net:parameters(), { lr = 1e-3 })

for epoch = 1, 3 do -- luacheck: ignore 213
  for x, y in loader:iter() do
    local loss = nn.functional.cross_entropy(net(x), y)
    opt:zero_grad(); loss:backward(); opt:step()
  end
end
net:save "fashion.safetensors"
