-- MNIST and Fashion-MNIST as datasets, from small files made here, and the download's checks.
local moon = require "moonlet"
local data = moon.data
local download = require "moonlet.data.download"
local pictures = require "spec.support.pictures"

describe("MNIST and Fashion-MNIST", function()
  local folder, remove
  setup(function()
    folder, remove = pictures.folder()
    pictures.make_set(folder, 30)
  end)
  teardown(function() remove() end)

  it("give float pictures from 0 to 1 and labels from 1 to 10", function()
    local set = data.FashionMNIST { root = folder }
    assert.equal(30, set:size())
    local picture, label = set:get(1)
    assert.same({ 1, 28, 28 }, picture:size())
    assert.equal("float32", picture.dtype)
    assert.equal(1, picture:max():item())
    assert.equal(8, label)
    assert.matches("FashionMNIST of 30 samples", tostring(set))
  end)

  it("give the same one by one and as a batch", function()
    local set = data.MNIST { root = folder, split = "test", normalize = true,
      transform = data.transforms.pad(2) }
    local x, y = set:batch(moon.tensor({ 3, 1 }, { dtype = "int64" }))
    assert.same({ 2, 1, 32, 32 }, x:size())
    local picture, label = set:get(3)
    assert.is_true(x[1]:sub(picture):abs():max():item() < 1e-6)
    assert.equal(label, y[1])
  end)

  it("take a plain function as transform", function()
    local set = data.MNIST { root = folder, transform = function(x) return x:mul(2) end }
    local x = set:batch(moon.tensor({ 1, 2 }, { dtype = "int64" }))
    assert.equal(2, x:max():item())
  end)

  it("say what to do when the files are not there", function()
    local ok, message = pcall(data.MNIST, { root = folder .. "/none" })
    assert.is_false(ok)
    assert.matches("train%-images%-idx3%-ubyte.gz and train%-labels", message)
    assert.matches("Pass download = true", message)
  end)

  it("number their samples from 1", function()
    local set = data.MNIST { root = folder }
    for _, bad in ipairs { 0, 31, 1.5 } do
      local _, message = pcall(set.get, set, bad)
      assert.matches("MNIST: there is no sample " .. bad .. "; they are numbered 1 to 30", message)
    end
  end)

  it("refuse pictures and labels that do not belong together", function()
    local other, clean = pictures.folder()
    pictures.make_set(other, 4)
    pictures.write(other .. "/train-labels-idx1-ubyte", pictures.idx({ 3 }, "\1\2\3"))
    local _, message = pcall(data.MNIST, { root = other })
    assert.matches("holds 4 pictures but .* 3 labels", message)
    pictures.write(other .. "/train-labels-idx1-ubyte", pictures.idx({ 4 }, "\1\2\3\77"))
    _, message = pcall(data.MNIST, { root = other })
    clean()
    assert.matches("holds label 77; 0 to 9 were expected", message)
  end)

  it("find Debian's Fashion-MNIST by themselves", function()
    local file = io.open("/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz")
    if not file then return pending("dataset-fashion-mnist is not installed") end
    file:close()
    local set = data.FashionMNIST { split = "test" }
    assert.equal(10000, set:size())
    assert.equal(1000, set.labels:eq(10):sum():item())
  end)
end)

describe("downloading", function()
  it("puts a file in place when its MD5 is right, and not otherwise", function()
    if not download.has_program("curl") then return pending("curl is not installed") end
    local from, clean_from = pictures.folder()
    local to, clean_to = pictures.folder()
    pictures.write(from .. "/part.gz", "hello")
    local mirrors = { "file:///no/such/folder/", "file://" .. from .. "/" }
    local md5 = "5d41402abc4b2a76b9719d911017c592"
    assert.is_true(download.fetch(to .. "/deep", "part.gz", mirrors, md5))
    assert.equal(md5, download.md5(to .. "/deep/part.gz"))
    local ok, reason = download.fetch(to, "part.gz", mirrors, ("0"):rep(32))
    assert.is_nil(ok)
    assert.matches("curl could not fetch it %(.*%); .*: MD5 5d41402", reason)
    assert.is_false(moon.file_exists(to .. "/part.gz"))
    clean_from()
    clean_to()
  end)

  it("says what to do by hand when no mirror answers", function()
    if not download.has_program("curl") then return pending("curl is not installed") end
    local folder, clean = pictures.folder()
    local Local = data.MNIST:extend "Local"
    Local.mirrors = { "file:///no/such/folder/" }
    local ok, message = pcall(Local, { root = folder, download = true })
    clean()
    assert.is_false(ok)
    assert.matches("could not download train%-images%-idx3%-ubyte.gz", message)
    assert.matches("by hand", message)
  end)
end)
