-- IDX files, which MNIST comes in: reading them, and damage of every kind.
local moon = require "moonlet"
local read_idx = require "moonlet.data.idx"
local pictures = require "spec.support.pictures"

local function message_of(bytes, dims)
  local path = os.tmpname()
  pictures.write(path, bytes)
  local ok, message = pcall(read_idx, path, dims)
  os.remove(path)
  assert.is_false(ok)
  assert.matches(path, message, 1, true)
  return message
end

describe("IDX files", function()
  it("are read with their shape", function()
    local path = os.tmpname()
    pictures.write(path, pictures.idx({ 2, 3 }, "\1\2\3\4\5\255"))
    local t = read_idx(path, 2)
    os.remove(path)
    assert.equal("uint8", t.dtype)
    assert.same({ { 1, 2, 3 }, { 4, 5, 255 } }, t:totable())
  end)

  it("name the file, the offset and what was expected when damaged", function()
    assert.matches("offset 2: the file ends here; an IDX header", message_of("\0\0"))
    assert.matches("offset 0: expected an IDX magic number such as 0x00000803, found 0x89504e47",
      message_of("\137PNG...."))
    assert.matches("offset 2: expected elements of type 0x08 %(unsigned byte%), found 0x0d "
      .. "%(float32%)", message_of("\0\0\13\1\0\0\0\1"))
    assert.matches("offset 3: expected 1 to 8 dimensions, found 0", message_of("\0\0\8\0\0\0\0\0"))
    assert.matches("offset 3: expected 3 dimensions %(magic 0x00000803%), found 1",
      message_of(pictures.idx({ 1 }, "x"), 3))
    assert.matches("offset 8: the file ends here; the size of dimension 2",
      message_of("\0\0\8\2\0\0\0\1"))
    assert.matches("offset 10: expected 4 elements %(4%) after the header, found 2",
      message_of(pictures.idx({ 4 }, "ab")))
    assert.matches("offset 9: expected 1 elements %(1%) after the header, found 2",
      message_of(pictures.idx({ 1 }, "ab")))
  end)

  it("do not trust a header that asks for more than any machine has", function()
    local huge = 2 ^ 32 - 1
    assert.matches("expected 792281624589241053%d+ elements",
      message_of(pictures.idx({ huge, huge, huge }, "ab")))
  end)

  it("say so when they are not there", function()
    local ok, message = pcall(read_idx, "/no/such/file")
    assert.is_false(ok)
    assert.matches("/no/such/file", message)
  end)

  it("are MNIST's own", function()
    local folder, reason = pictures.mnist()
    if not folder then return pending(reason) end
    local labels = read_idx(folder .. "/t10k-labels-idx1-ubyte.gz", 1):to("int64")
    local counts = { 980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009 }
    for digit, count in ipairs(counts) do
      assert.equal(count, labels:eq(digit - 1):sum():item())
    end
    local images = read_idx(folder .. "/t10k-images-idx3-ubyte.gz", 3)
    assert.same({ 10000, 28, 28 }, images:size())
  end)

  it("are refused when a gzip file is cut off", function()
    local folder, reason = pictures.mnist()
    if not folder then return pending(reason) end
    local file = io.open(folder .. "/t10k-labels-idx1-ubyte.gz", "rb")
    local bytes = file:read("*a")
    file:close()
    message_of(bytes:sub(1, 2000), 1)
    assert.is_true(moon.is_tensor(moon.zeros(1)))
  end)
end)
