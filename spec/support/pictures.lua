-- Small IDX sets made on the spot, and where the real ones lie, for specs of data and training.
local pictures = {}

local here = debug.getinfo(1, "S").source:match("^@(.*)$")
local root = here:match("^(.*)/spec/support/[^/]*$") or "."

-- The folder of real MNIST beside the repository, or nil and a reason for `pending`.
function pictures.mnist()
  local folder = root .. "/../shared/data/mnist"
  local file = io.open(folder .. "/t10k-labels-idx1-ubyte.gz", "rb")
  if not file then return nil, "../shared/data/mnist is not there" end
  file:close()
  return folder
end

-- A photograph beside the repository, grey, float64 from 0 to 1, height x width; or nil and a
-- reason for `pending`.
function pictures.photograph()
  local path = root .. "/../shared/data/imagenet-photos/jpeg/n01514859_hen.JPEG"
  local file = io.open(path, "rb")
  if not file then return nil, "../shared/data/imagenet-photos is not there" end
  file:close()
  local image = require("moonlet").image.load(path, { channels = 1 })
  return image:select(1, 1):to("float64") / 255
end

local function big_endian(number)
  return string.char(math.floor(number / 2 ^ 24) % 256, math.floor(number / 2 ^ 16) % 256,
    math.floor(number / 2 ^ 8) % 256, number % 256)
end

-- An IDX file's bytes: header for `sizes`, then the elements.
function pictures.idx(sizes, elements)
  local parts = { string.char(0, 0, 8, #sizes) }
  for _, size in ipairs(sizes) do parts[#parts + 1] = big_endian(size) end
  parts[#parts + 1] = elements
  return table.concat(parts)
end

function pictures.write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

-- A folder of its own, and a function that removes it.
function pictures.folder()
  local path = os.tmpname()
  os.remove(path)
  os.execute("mkdir -p '" .. path .. "'")
  return path, function() os.execute("rm -rf '" .. path .. "'") end
end

-- Writes a set of `count` 28 x 28 pictures a split: picture i is bright in its label's rows.
function pictures.make_set(folder, count)
  for _, prefix in ipairs { "train", "t10k" } do
    local pixels, labels = {}, {}
    for i = 1, count do
      local label = (i * 7) % 10
      labels[i] = string.char(label)
      local rows = {}
      for row = 0, 27 do
        local bright = math.floor(row / 2.8) == label
        rows[#rows + 1] = string.rep(string.char(bright and 255 or (i + row) % 32), 28)
      end
      pixels[i] = table.concat(rows)
    end
    pictures.write(folder .. "/" .. prefix .. "-images-idx3-ubyte",
      pictures.idx({ count, 28, 28 }, table.concat(pixels)))
    pictures.write(folder .. "/" .. prefix .. "-labels-idx1-ubyte",
      pictures.idx({ count }, table.concat(labels)))
  end
end

return pictures
