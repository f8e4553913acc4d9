-- Tar archives: what the program tar writes comes back, and damage is named.
local moon = require "moonlet"
local read_tar = require "moonlet.data.tar"
local download = require "moonlet.data.download"
local pictures = require "spec.support.pictures"

local function text_of(bytes)
  local letters = {}
  for i, byte in ipairs(bytes:totable()) do letters[i] = string.char(byte) end
  return table.concat(letters)
end

-- A header of 512 bytes with the right checksum.
local function header(name, size, kind)
  local text = name .. ("\0"):rep(100 - #name) .. ("0000644\0"):rep(3) .. size
    .. ("\0"):rep(12 - #size) .. ("0"):rep(11) .. "\0" .. (" "):rep(8) .. kind .. ("\0"):rep(100)
    .. "ustar\00000"
  text = text .. ("\0"):rep(512 - #text)
  local sum = 0
  for i = 1, #text do sum = sum + text:byte(i) end
  return text:sub(1, 148) .. ("%06o\0 "):format(sum) .. text:sub(157)
end

local function fill(bytes) return bytes .. ("\0"):rep(-#bytes % 512) end

local function read_bytes(bytes)
  local path = os.tmpname()
  pictures.write(path, bytes)
  local ok, result = pcall(read_tar, path)
  os.remove(path)
  return ok, result
end

local function message_of(bytes)
  local ok, message = read_bytes(bytes)
  assert.is_false(ok)
  return message
end

describe("tar archives", function()
  it("of the program tar are read in each of its formats, gzip or plain", function()
    if not download.has_program("tar") then return pending("tar is not installed") end
    local folder, clean = pictures.folder()
    os.execute(("mkdir -p '%s/sub/empty'"):format(folder))
    local long = ("x"):rep(513)
    pictures.write(folder .. "/sub/one.bin", "one")
    pictures.write(folder .. "/sub/long", long)
    pictures.write(folder .. "/none", "")
    for _, kind in ipairs { "gnu", "oldgnu", "ustar", "v7", "posix" } do
      for _, zip in ipairs { "", "z" } do
        os.execute(("cd '%s' && tar --format=%s -c%sf archive sub none"):format(folder, kind, zip))
        local members = read_tar(folder .. "/archive")
        local names = 0
        for _ in pairs(members) do names = names + 1 end
        assert.equal(3, names)
        assert.equal("one", text_of(members["sub/one.bin"]))
        assert.equal(long, text_of(members["sub/long"]))
        assert.equal(0, members.none:numel())
      end
    end
    clean()
  end)

  it("join the two halves of a long name", function()
    local start = header("file", "1", "0")
    local sum = 0
    start = start:sub(1, 345) .. "far/away" .. start:sub(354)
    for i = 1, 512 do sum = sum + (i >= 149 and i <= 156 and 32 or start:byte(i)) end
    start = start:sub(1, 148) .. ("%06o\0 "):format(sum) .. start:sub(157)
    local ok, members = read_bytes(start .. fill("a"))
    assert.is_true(ok, members)
    assert.equal("a", text_of(members["far/away/file"]))
  end)

  it("name the file, the offset and what was expected when damaged", function()
    local good = header("a", "0000003", "0") .. fill("abc")
    assert.is_true((read_bytes(good)))
    assert.matches("offset 100: the archive ends here; a header of 512 bytes was expected",
      message_of(good:sub(1, 100)))
    assert.matches("offset 514: the archive ends here; a has 3 bytes from offset 512",
      message_of(good:sub(1, 514)))
    assert.matches("offset 1024: expected the header of a tar archive's member, its checksum",
      message_of(good .. ("x"):rep(512)))
    assert.matches("offset 0: expected the header", message_of("b" .. good:sub(2)))
    assert.matches("offset 124: expected a size in octal digits",
      message_of(header("a", "-1", "0") .. fill("abc")))
    assert.matches("a has 8589934591 bytes from offset 512",
      message_of(header("a", ("7"):rep(11), "0")))
  end)

  it("may end without a filled block, and may be empty", function()
    local ok, members = read_bytes(header("a", "3", "0") .. "abc")
    assert.is_true(ok, members)
    assert.equal(3, members.a:numel())
    assert.same({ true, {} }, { read_bytes("") })
    assert.same({ true, {} }, { read_bytes(("\0"):rep(1024)) })
    assert.has_error(function() read_tar("/no/such/file") end)
    assert.is_true(moon.is_tensor(members.a))
  end)
end)
