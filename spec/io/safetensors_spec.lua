-- moon.save and moon.load: what is written is read back, a file is replaced whole or not at all,
-- hostile files get a sentence. spec/c/io_test.c goes further under the sanitizers.
local moon = require "moonlet"

local folder, path

local function write(bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

local function read(name)
  local file = assert(io.open(name or path, "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

-- A file with this header and `data` behind it.
local function with_header(header, data)
  local length = #header
  local prefix = {}
  for i = 1, 8 do
    prefix[i] = string.char(length % 256)
    length = math.floor(length / 256)
  end
  return table.concat(prefix) .. header .. (data or "")
end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function assert_says(part, message)
  assert.is_truthy(message:find(part, 1, true), message)
end

setup(function()
  folder = os.tmpname()
  os.remove(folder)
  moon.make_directory(folder)
  path = folder .. "/t.safetensors"
end)

teardown(function() os.execute("rm -r '" .. folder .. "'") end)

describe("safetensors", function()
  it("give back every type, shape and the metadata", function()
    local tensors = {
      float32 = moon.randn(3, 4), float64 = moon.randn(2, 2, { dtype = "float64" }),
      float16 = moon.randn(5):to("float16"), bfloat16 = moon.randn(5):to("bfloat16"),
      int64 = moon.tensor({ 1, -2, 3 }, { dtype = "int64" }),
      int32 = moon.tensor({ 7, -8 }, { dtype = "int32" }),
      uint8 = moon.tensor({ 0, 255, 3 }, { dtype = "uint8" }),
      bool = moon.tensor({ 1, 0, 1 }):gt(0),
      empty = moon.zeros(0, 3), scalar = moon.tensor(2.5),
      turned = moon.randn(4, 6):t(), [""] = moon.ones(1), ["näme \"q\""] = moon.ones(2),
    }
    moon.save(path, tensors, { epoch = "3", note = "a\nb" })
    local back, metadata = moon.load(path)
    assert.same({ epoch = "3", note = "a\nb" }, metadata)
    for name, tensor in pairs(tensors) do
      assert.equal(tensor.dtype, back[name].dtype)
      assert.same(tensor.shape, back[name].shape)
      assert.equal(tensor:tobytes(), back[name]:tobytes())
      tensors[name] = nil
      back[name] = nil
    end
    assert.is_nil(next(back))
  end)

  it("are the same bytes for the same tensors", function()
    local a, b = moon.arange(1, 5), moon.ones(3, { dtype = "uint8" })
    moon.save(path, { a = a, b = b, c = a })
    local first = read()
    moon.save(path, { c = a, b = b, a = a })
    assert.equal(first, read())
    assert.equal(0, (#first - a:numel() * 8 - 3) % 8)
  end)

  it("can be changed in memory without changing the file", function()
    moon.save(path, { w = moon.ones(1000) })
    local before = read()
    local w = moon.load(path).w
    w:add_(1)
    w[1] = 7
    assert.equal(7 + 2 * 999, w:sum():item())
    assert.equal(before, read())
    assert.equal(1000, moon.load(path).w:sum():item())
  end)

  it("can be written over while their tensors are in use", function()
    moon.save(path, { w = moon.full({ 3 }, 5) })
    local w = moon.load(path).w
    moon.save(path, { w = w:add(1) })
    assert.equal(15, w:sum():item())
    assert.equal(18, moon.load(path).w:sum():item())
  end)

  it("stay as they were when writing fails", function()
    moon.save(path, { w = moon.ones(2) })
    local before = read()
    assert_says("must be a tensor, got number", message_of(moon.save, path, { w = 3 }))
    assert_says("not UTF-8", message_of(moon.save, path, { ["\255"] = moon.ones(1) }))
    assert_says("must be a string, got number",
      message_of(moon.save, path, { w = moon.ones(1) }, { epoch = 3 }))
    assert_says("zero byte", message_of(moon.save, path, { ["a\0b"] = moon.ones(1) }))
    assert.equal(before, read())
    assert.equal("t.safetensors\n", assert(io.popen("ls '" .. folder .. "'")):read("*a"))
  end)

  it("cost no memory of ours, since they are mapped", function()
    moon.save(path, { w = moon.zeros(1024, 1024) })
    collectgarbage()
    collectgarbage()
    local before = moon.memory().live
    local w = moon.load(path).w
    assert.is_true(moon.memory().live - before < 1024 or moon.memory().live - before == 4 * 2 ^ 20)
    assert.equal(0, w:sum():item())
  end)

  it("get a sentence with file and offset where they lie", function()
    local function refused(bytes, part)
      write(bytes)
      local message = message_of(moon.load, path)
      assert_says(path, message)
      assert_says(part, message)
    end
    refused("", "ends at byte 0")
    refused(("\255"):rep(8) .. "{}", "at most 2 are possible")
    refused(with_header("[1]"), "byte 8: the header should be a JSON object")
    refused(with_header('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "1234"),
      "4 bytes further (truncated?)")
    refused(with_header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "12345678"),
      "4 bytes more")
    refused(with_header('{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}', "12345678"),
      'the type "C64"')
    assert_says("cannot read '" .. folder .. "/none'", message_of(moon.load, folder .. "/none"))
    assert_says("path must be a string", message_of(moon.load, 3))
  end)

  it("of another library are read", function()
    local source = "../shared/data/formats/safetensors/mnist_mlp.safetensors"
    if not io.open(source, "rb") then pending("no " .. source .. " here") return end
    local net = moon.load(source)
    assert.same({ 128, 784 }, net["l1.weight"].shape)
    assert.same({ 10, 128 }, net["l2.weight"].shape)
    local images = "../shared/data/mnist/t10k-images-idx3-ubyte"
    local names = { images, images .. ".gz", "../shared/data/mnist/t10k-images.idx3-ubyte" }
    for _, name in ipairs(names) do
      local file = io.open(name, "rb")
      if file then
        file:close()
        local x = moon.read_gzip(name):narrow(1, 17, 10000 * 784):view(10000, 784):float()
        local labels = name:gsub("images", "labels"):gsub("idx3", "idx1")
        local y = moon.read_gzip(labels):narrow(1, 9, 10000):long()
        local hidden = x:div(255):linear(net["l1.weight"]):leaky_relu(0.01)
        local guess = hidden:linear(net["l2.weight"]):argmax(2)
        local right = guess:eq(y:add(1)):sum():item()
        assert.equal(9097, right)
        return
      end
    end
    pending("no MNIST test set in ../shared/data/mnist")
  end)
end)
