-- Pictures to tensors and back: moon.image.load gives uint8 (channels, height, width),
-- moon.image.save takes (c, h, w) or (h, w), uint8 or floats from 0 to 1, and writes PNG.

local core = require "moonlet.core"
local options = require "moonlet.options"

local M = {}

--- Reads a PNG, JPEG or BMP file.
-- @string path the file, or { bytes = "..." } for a picture in memory
-- @tparam ?table given channels = 1, 3 or 4 to convert; as in the file otherwise
-- @treturn tensor uint8, channels x height x width
-- @usage local moon = require "moonlet"
-- local path = os.tmpname()
-- moon.image.save(path, moon.ones(3, 2, 2))
-- assert(moon.image.load(path):size(1) == 3)
-- os.remove(path)
function M.load(path, given)
  local o = options.read("image.load", given, { channels = { "integer" } }, 3)
  return core.image_load(path, o)
end

--- Writes a tensor as PNG, atomically.
-- @string path where to
-- @tparam tensor picture c x h x w or h x w, uint8 or floats from 0 to 1
function M.save(path, picture)
  return core.image_save(path, picture)
end

return M
