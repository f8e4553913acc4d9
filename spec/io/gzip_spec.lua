-- read_gzip: a file's bytes, decompressed where it is gzip; spec/c/io_test.c damages such files.
local moon = require "moonlet"

local path

setup(function() path = os.tmpname() end)
teardown(function() os.remove(path) end)

local function write(bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

describe("read_gzip", function()
  it("reads plain files as they are", function()
    write("moon\0let\255")
    local bytes = moon.read_gzip(path)
    assert.equal("uint8", bytes.dtype)
    assert.equal("moon\0let\255", bytes:tobytes())
    write("")
    assert.same({ 0 }, moon.read_gzip(path).shape)
  end)

  it("decompresses", function()
    local text = ("0123456789"):rep(100000)
    write(text)
    assert(os.execute("gzip -f -n '" .. path .. "'"))
    os.rename(path .. ".gz", path)
    assert.equal(text, moon.read_gzip(path):tobytes())
  end)

  it("names file and offset where the data end too soon", function()
    write(("0123456789"):rep(1000))
    assert(os.execute("gzip -f -n '" .. path .. "'"))
    local file = assert(io.open(path .. ".gz", "rb"))
    local packed = file:read("*a")
    file:close()
    os.remove(path .. ".gz")
    write(packed:sub(1, 30))
    local ok, message = pcall(moon.read_gzip, path)
    assert.is_false(ok)
    assert.is_truthy(message:find(path .. ": byte 30: the file ends inside its gzip data", 1, true),
      message)
  end)

  it("says which file is missing", function()
    local ok, message = pcall(moon.read_gzip, path .. ".none")
    assert.is_false(ok)
    assert.is_truthy(message:find(path .. ".none", 1, true), message)
  end)
end)
