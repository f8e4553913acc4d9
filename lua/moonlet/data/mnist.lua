-- MNIST: handwritten digits (LeCun, Cortes, Burges), 60,000 to train, 10,000 to test. Label 1 is
-- the digit 0, label 10 the digit 9.

local Pictures = require "moonlet.data.idxpictures"

local MNIST = Pictures:extend "MNIST"

MNIST.module_name = "moonlet.data.mnist"
MNIST.folder = "mnist"
MNIST.names = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" }
MNIST.mean, MNIST.deviation = 0.1307, 0.3081
MNIST.mirrors = {
  "https://ossci-datasets.s3.amazonaws.com/mnist/",
  "https://storage.googleapis.com/cvdf-datasets/mnist/",
}
MNIST.files = {
  ["train-images-idx3-ubyte.gz"] = "f68b3c2dcbeaaa9fbdd348bbdeb94873",
  ["train-labels-idx1-ubyte.gz"] = "d53e105ee54ea40749a09fcbcd1e9432",
  ["t10k-images-idx3-ubyte.gz"] = "9fb629c4189551a2d022fa330f9573f3",
  ["t10k-labels-idx1-ubyte.gz"] = "ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST.rebuild = Pictures.rebuilder(MNIST)

--- Opens MNIST; without root it looks in $MOONLET_DATA/mnist, data/mnist, ~/.cache/moonlet/mnist.
-- @function MNIST:init
-- @tparam ?table given root, split = "train" or "test", download = false, normalize = false,
-- transform
-- @usage local moon = require "moonlet"
-- local ok, message = pcall(moon.data.MNIST, { root = "/no/such/folder" })
-- assert(not ok and message:find "download = true")

return MNIST
