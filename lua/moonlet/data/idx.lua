-- IDX, the format of MNIST: a big-endian header (two zero bytes, the element type, the number of
-- dimensions, then each dimension in four bytes) and the elements. Gzip is read directly.
--
-- The file is not trusted: every length is checked before it is used, and a message names the
-- file, the offset and what was expected there.

local core = require "moonlet.core"

local type_names = {
  [0x09] = "int8", [0x0B] = "int16", [0x0C] = "int32", [0x0D] = "float32", [0x0E] = "float64",
}
local UNSIGNED_BYTE = 0x08

local function fail(path, offset, message)
  error(("%s: offset %d: %s"):format(path, offset, message), 0)
end

local function read_big_endian(bytes, offset)
  local value = 0
  for i = 1, 4 do value = value * 256 + bytes[offset + i] end
  return value
end

-- The number of dimensions, after checking the first four bytes.
local function read_magic(path, bytes)
  local length = bytes:numel()
  if length < 4 then
    fail(path, length, ("the file ends here; an IDX header of at least 8 bytes was expected"))
  end
  local magic = read_big_endian(bytes, 0)
  local kind, dims = bytes[3], bytes[4]
  if bytes[1] ~= 0 or bytes[2] ~= 0 then
    fail(path, 0, ("expected an IDX magic number such as 0x00000803, found 0x%08x"):format(magic))
  end
  if kind ~= UNSIGNED_BYTE then
    fail(path, 2, ("expected elements of type 0x08 (unsigned byte), found 0x%02x%s"):format(
      kind, type_names[kind] and " (" .. type_names[kind] .. ")" or ""))
  end
  if dims < 1 or dims > 8 then
    fail(path, 3, ("expected 1 to 8 dimensions, found %d"):format(dims))
  end
  return dims
end

local function read_sizes(path, bytes, dims)
  local length = bytes:numel()
  local sizes, total = {}, 1.0   -- a float: hostile sizes must not wrap round in 5.4's integers
  for i = 1, dims do
    local offset = 4 * i
    if length < offset + 4 then
      fail(path, length, ("the file ends here; the size of dimension %d was expected"):format(i))
    end
    sizes[i] = read_big_endian(bytes, offset)
    total = total * sizes[i]
  end
  return sizes, total
end

--- Reads an IDX file of unsigned bytes.
-- @string path the file, plain or gzip
-- @int[opt] expected_dims how many dimensions it must have
-- @treturn tensor uint8, of the shape in the header
return function(path, expected_dims)
  local bytes = core.read_gzip(path)
  local dims = read_magic(path, bytes)
  if expected_dims and dims ~= expected_dims then
    fail(path, 3, ("expected %d dimension%s (magic 0x0000080%d), found %d"):format(
      expected_dims, expected_dims == 1 and "" or "s", expected_dims, dims))
  end
  local sizes, total = read_sizes(path, bytes, dims)
  local start = 4 + 4 * dims
  local found = bytes:numel() - start
  if found ~= total then
    fail(path, start + math.min(found, total), ("expected %s elements (%s) after the header, "
      .. "found %d"):format(("%.0f"):format(total), table.concat(sizes, "x"), found))
  end
  return bytes:narrow(1, start + 1, found):reshape(sizes)
end
