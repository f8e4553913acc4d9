-- Small IDX and CIFAR-10 sets made on the spot, and where the real ones lie, for specs of data and
-- training.
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

-- A folder with some files of real CIFAR-10 (data_batch_1 to 3, test_batch), unpacked from beside
-- the repository, and a function that removes it; or nil and a reason for `pending`.
function pictures.cifar10(names)
  local from = root .. "/../shared/data/cifar10"
  local folder, remove = pictures.folder()
  for _, name in ipairs(names) do
    local done = os.execute(("xz -dqc '%s/%s.bin.xz' > '%s/%s.bin' 2>/dev/null"):format(
      from, name, folder, name))
    if done ~= true and done ~= 0 then
      remove()
      return nil, "../shared/data/cifar10 is not there, or xz is not"
    end
  end
  return folder, remove
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

-- Bytes of a CIFAR-10 file: red tells the label, green the row and blue the column.
function pictures.cifar_records(labels)
  local rows, columns = {}, {}
  for i = 0, 31 do rows[i + 1], columns[i + 1] = string.rep(string.char(i), 32), string.char(i) end
  local green, blue = table.concat(rows), string.rep(table.concat(columns), 32)
  local records = {}
  for i, label in ipairs(labels) do
    local red = string.rep(string.char(25 * label % 256), 1024)
    records[i] = string.char(label) .. red .. green .. blue
  end
  return table.concat(records)
end

-- Writes files of CIFAR-10 with `count` pictures each.
function pictures.make_cifar(folder, names, count)
  local labels = {}
  for i = 1, count do labels[i] = (i * 7) % 10 end
  for _, name in ipairs(names) do
    pictures.write(folder .. "/" .. name .. ".bin", pictures.cifar_records(labels))
  end
end

return pictures
