-- Fashion-MNIST: pictures of clothes (Xiao, Rasul, Vollgraf 2017) in MNIST's form. Debian's package
-- dataset-fashion-mnist has it.

local Pictures = require "moonlet.data.idxpictures"

local FashionMNIST = Pictures:extend "FashionMNIST"

FashionMNIST.module_name = "moonlet.data.fashionmnist"
FashionMNIST.folder = "fashion-mnist"
FashionMNIST.places = { "/usr/share/datasets/fashion-mnist" }
FashionMNIST.hint = " (Debian: apt install dataset-fashion-mnist)"
FashionMNIST.names = {
  "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
}
FashionMNIST.mean, FashionMNIST.deviation = 0.2860, 0.3530
FashionMNIST.mirrors = {
  "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
  "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
FashionMNIST.files = {
  ["train-images-idx3-ubyte.gz"] = "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
  ["train-labels-idx1-ubyte.gz"] = "25c81989df183df01b3e8a0aad5dffbe",
  ["t10k-images-idx3-ubyte.gz"] = "bef4ecab320f06d8554ea6380940ec79",
  ["t10k-labels-idx1-ubyte.gz"] = "bb300cfdad3c16e7a12a480ee83cd310",
}
FashionMNIST.rebuild = Pictures.rebuilder(FashionMNIST)

--- Opens Fashion-MNIST; without root it looks where MNIST does and in Debian's folder.
-- @function FashionMNIST:init
-- @tparam ?table given root, split = "train" or "test", download = false, normalize = false,
-- transform
-- @usage local moon = require "moonlet"
-- local ok, message = pcall(moon.data.FashionMNIST, { root = "/no/such/folder" })
-- assert(not ok and message:find "download = true")

return FashionMNIST
