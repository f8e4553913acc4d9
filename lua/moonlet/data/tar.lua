-- Tar archives (POSIX ustar, and GNU's where it is the same): members one after the other, each a
-- header of 512 bytes and its own bytes, filled up to a multiple of 512; zeros end the archive.
-- Gzip is read directly. Only ordinary files are given; names above 255 bytes, which take more than
-- a header, come out short.
--
-- The archive is not trusted: a header's checksum and every length are checked before they are
-- used, and a message names the file, the offset and what was expected there.

local core = require "moonlet.core"
local unpack = require "moonlet.unpack"

local BLOCK = 512

-- Where a header's fields lie, from 1, and how long they are.
local NAME, SIZE, CHECKSUM, KIND, MAGIC, PREFIX =
  { 1, 100 }, { 125, 12 }, { 149, 8 }, { 157, 1 }, { 258, 6 }, { 346, 155 }

local function fail(path, offset, message)
  error(("%s: offset %.0f: %s"):format(path, offset, message), 0)
end

local function text_of(header, field)
  local first, length = field[1], field[2]
  local text = string.char(unpack(header, first, first + length - 1))
  return text:match("^[^%z]*")
end

-- A number in octal digits; nil when the field holds something else.
local function number_of(header, field)
  local digits = text_of(header, field):match("^ *([0-7]+) *$")
  return digits and tonumber(digits, 8)
end

-- The sum of a header's bytes, those of the checksum itself taken as spaces.
local function sum_of(header)
  local sum, first, length = 0, CHECKSUM[1], CHECKSUM[2]
  for i, byte in ipairs(header) do
    local own = i >= first and i < first + length
    sum = sum + (own and 32 or byte)
  end
  return sum
end

local function name_of(header)
  local name = text_of(header, NAME)
  local prefix = text_of(header, PREFIX)
  -- GNU's magic is "ustar  " and has times where the prefix stands.
  if text_of(header, MAGIC) ~= "ustar" or prefix == "" then return name end
  return prefix .. "/" .. name
end

-- One header: name, size and whether it is an ordinary file; nil at the end of the archive.
local function read_header(path, bytes, offset)
  local header = bytes:narrow(1, offset + 1, BLOCK):totable()
  local sum = sum_of(header)
  if sum == 32 * CHECKSUM[2] then return nil end
  if number_of(header, CHECKSUM) ~= sum then
    fail(path, offset, "expected the header of a tar archive's member, its checksum is wrong")
  end
  local size = number_of(header, SIZE)
  if not size then fail(path, offset + SIZE[1] - 1, "expected a size in octal digits") end
  local kind = text_of(header, KIND)
  return name_of(header), size, kind == "0" or kind == ""
end

--- Reads an archive of files.
-- @string path the archive, plain or gzip
-- @treturn table name to uint8 tensor, a view of the archive's bytes
return function(path)
  local bytes = core.read_gzip(path)
  local members, offset, total = {}, 0, bytes:numel()
  while offset < total do
    if total - offset < BLOCK then
      fail(path, total, "the archive ends here; a header of 512 bytes was expected")
    end
    local name, size, ordinary = read_header(path, bytes, offset)
    if not name then break end
    offset = offset + BLOCK
    if size > total - offset then
      fail(path, total, ("the archive ends here; %s has %.0f bytes from offset %.0f"):format(
        name, size, offset))
    end
    if ordinary then members[name] = bytes:narrow(1, offset + 1, size) end
    offset = offset + math.ceil(size / BLOCK) * BLOCK
  end
  return members
end
