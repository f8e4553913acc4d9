-- CIFAR-10 from small files made here: order of bytes, labels, which files, damage; and the real
-- set where it lies beside the repository.
local moon = require "moonlet"
local data = moon.data
local download = require "moonlet.data.download"
local pictures = require "spec.support.pictures"

local function message_of(given)
  local ok, message = pcall(data.CIFAR10, given)
  assert.is_false(ok)
  return message
end

describe("CIFAR10", function()
  local folder, remove
  before_each(function() folder, remove = pictures.folder() end)
  after_each(function() remove() end)

  local function make(names, count) pictures.make_cifar(folder, names, count or 4) end

  it("reads planes of red, green and blue, row by row, and labels that count from 1", function()
    make { "test_batch" }
    local set = data.CIFAR10 { root = folder, split = "test" }
    assert.equal("CIFAR10 of 4 samples", tostring(set))
    assert.equal("uint8", set.images.dtype)
    assert.same({ 4, 3, 32, 32 }, set.images:size())
    assert.equal("int64", set.labels.dtype)
    assert.same({ 8, 5, 2, 9 }, set.labels:totable())
    assert.equal("ship", set.names[set.labels[4]])
    local x, label = set:get(2)
    assert.equal(5, label)
    local pixel = x:select(2, 4):select(2, 30):mul(255):totable()
    for c, expected in ipairs { 25 * 4, 3, 29 } do
      assert.is_true(math.abs(pixel[c] - expected) < 1e-4)
    end
  end)

  it("reads the batches asked for, in that order, gzip or not", function()
    make({ "data_batch_1", "data_batch_3" }, 2)
    make({ "data_batch_2" }, 3)
    os.execute(("gzip '%s/data_batch_3.bin'"):format(folder))
    local set = data.CIFAR10 { root = folder, batches = { 2, 3 } }
    assert.same({ 8, 5, 2, 8, 5 }, set.labels:totable())
    assert.equal(7, data.CIFAR10({ root = folder, batches = { 1, 2, 3 } }):size())
  end)

  it("has mean 0 and deviation 1 a channel when asked to, one by one and in batches", function()
    make { "test_batch" }
    local set = data.CIFAR10 { root = folder, split = "test", normalize = true,
      transform = data.transforms.pad(1) }
    local batch = set:batch(moon.tensor({ 3, 1 }, { dtype = "int64" }))
    assert.same({ 2, 3, 34, 34 }, batch:size())
    local single = set:get(3)
    assert.equal(0, batch[1]:sub(single):abs():max():item())
    local expected = (25 * 1 / 255 - set.mean[1]) / set.deviation[1]
    assert.is_true(math.abs(batch[{ 1, 1, 5, 5 }] - expected) < 1e-5)
    expected = (31 / 255 - set.mean[3]) / set.deviation[3]
    assert.is_true(math.abs(batch[{ 1, 3, 2, 33 }] - expected) < 1e-5)
  end)

  it("gives the same batches with worker threads", function()
    make({ "test_batch" }, 12)
    local t = data.transforms
    local function sums(workers)
      local set = data.CIFAR10 { root = folder, split = "test", normalize = true,
        transform = t.compose { t.random_crop(32, 4), t.random_horizontal_flip() } }
      local loader, list = data.Loader(set,
        { batch = 5, shuffle = true, seed = 3, workers = workers }), {}
      for x, y in loader:iter() do list[#list + 1] = { x:sum():item(), y:totable() } end
      loader:close()
      return list
    end
    assert.same(sums(0), sums(2))
  end)

  it("reads the archive as it was downloaded, and the folder that it unpacks to", function()
    if not download.has_program("tar") then return pending("tar is not installed") end
    local inside = folder .. "/cifar-10-batches-bin"
    os.execute(("mkdir -p '%s'"):format(inside))
    pictures.make_cifar(inside, { "data_batch_1", "data_batch_2", "test_batch" }, 3)
    os.execute(("cd '%s' && tar -czf cifar-10-binary.tar.gz cifar-10-batches-bin"):format(folder))
    local given = { root = folder, batches = { 2, 1 } }
    local open = data.CIFAR10(given)
    os.execute(("rm -r '%s'"):format(inside))
    local packed = data.CIFAR10(given)
    assert.equal(6, packed:size())
    assert.is_true(packed.images:eq(open.images):all():item())
    assert.same(open.labels:totable(), packed.labels:totable())
    assert.matches("cifar%-10%-binary.tar.gz: there is no cifar%-10%-batches%-bin/data_batch_3.bin",
      message_of { root = folder, batches = { 3 } })
  end)

  it("fetches the archive whole, or says what to do by hand", function()
    if not download.has_program("curl") then return pending("curl is not installed") end
    local name = "cifar-10-binary.tar.gz"
    local from = folder .. "/mirror/cifar-10-batches-bin"
    os.execute(("mkdir -p '%s'"):format(from))
    pictures.make_cifar(from, { "test_batch" }, 3)
    os.execute(("cd '%s/mirror' && tar -czf %s *"):format(folder, name))
    local Local = data.CIFAR10:extend "Local"
    Local.mirrors = { "file://" .. folder .. "/mirror/" }
    Local.files = { [name] = download.md5(folder .. "/mirror/" .. name) }
    local given = { root = folder .. "/here", split = "test", download = true }
    assert.equal(3, Local(given):size())
    Local.files = data.CIFAR10.files
    given.root = folder .. "/there"
    local ok, message = pcall(Local, given)
    assert.is_false(ok)
    assert.matches("could not download " .. name:gsub("%p", "%%%0") .. " %(.*MD5.*by hand", message)
  end)

  it("names the files that are missing", function()
    assert.matches("CIFAR10: test_batch.bin is not in /none. Pass download = true",
      message_of { root = "/none", split = "test" })
    make { "data_batch_1", "data_batch_3" }
    local message = message_of { root = folder }
    assert.matches("CIFAR10: data_batch_2.bin, data_batch_4.bin, data_batch_5.bin are not in "
      .. folder .. ", which has others; batches = { ... } names those to read", message, 1, true)
  end)

  it("names files that are too short, and labels that there are not", function()
    local path = folder .. "/test_batch.bin"
    local given = { root = folder, split = "test" }
    for _, bytes in ipairs { "", "x", pictures.cifar_records({ 1, 2 }):sub(2) } do
      pictures.write(path, bytes)
      assert.matches(("%s: holds %d bytes; expected 30730000 (10000 records of 3073 bytes), or a "
        .. "whole number of records"):format(path, #bytes), message_of(given), 1, true)
    end
    pictures.write(path, pictures.cifar_records { 1, 10 })
    assert.matches(path .. ": holds label 10; 0 to 9 were expected", message_of(given), 1, true)
  end)

  it("refuses batches that there are not, blaming the caller", function()
    local cases = {
      { { 1, 6 }, "batches must be numbers from 1 to 5; found 6" },
      { { 1.5 }, "batches must be numbers from 1 to 5; found 1.5" },
      { { "2" }, 'batches must be numbers from 1 to 5; found "2"' },
      { { 2, 2 }, "batches names 2 twice" },
      { {}, "batches must name one at least" },
    }
    for _, case in ipairs(cases) do
      assert.matches(case[2], message_of { root = folder, batches = case[1] })
    end
    local ok, message = pcall(function()
      local set = data.CIFAR10 { root = folder, split = "test", batches = { 1 } }
      return set
    end)
    assert.is_false(ok)
    assert.matches("cifar10_spec.lua:%d+: CIFAR10: batches chooses of the training set", message)
  end)

  it("is the real one, where it lies beside the repository", function()
    local real, clean = pictures.cifar10 { "data_batch_2", "test_batch" }
    if not real then return pending(clean) end
    local training = data.CIFAR10 { root = real, batches = { 2 } }
    local test = data.CIFAR10 { root = real, split = "test" }
    clean()
    local counts = { 984, 1007, 1010, 995, 1010, 988, 1008, 1026, 987, 985 }
    for label, count in ipairs(counts) do
      assert.equal(count, training.labels:eq(label):sum():item())
      assert.equal(1000, test.labels:eq(label):sum():item())
    end
    for c = 1, 3 do   -- a fifth of the pictures that the constants are of
      local plane = training.images:select(2, c):to("float64"):div(255)
      assert.is_true(math.abs(plane:mean():item() - training.mean[c]) < 3e-3)
      assert.is_true(math.abs(plane:std():item() - training.deviation[c]) < 3e-3)
    end
  end)
end)
