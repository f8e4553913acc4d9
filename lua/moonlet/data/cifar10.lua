-- CIFAR-10 (Krizhevsky 2009, "Learning multiple layers of features from tiny images"): coloured
-- photographs of 32 x 32 pixels, 50,000 to train in five batches, 10,000 to test.
--
-- The binary version: a file a batch, records of 3073 bytes without a header: the label from 0,
-- then 1024 bytes each of red, green and blue. The files may lie open in the folder (gzip or not),
-- below it as they are in the archive, or in the archive, which costs a second to read through. A
-- file may hold fewer records than the original 10,000.

local core = require "moonlet.core"
local Pictures = require "moonlet.data.pictures"
local options = require "moonlet.options"
local read_tar = require "moonlet.data.tar"

local CIFAR10 = Pictures:extend "CIFAR10"

local CHANNELS, SIDE, RECORDS, BATCHES = 3, 32, 10000, 5
local PIXELS = CHANNELS * SIDE * SIDE
local RECORD = 1 + PIXELS
local ARCHIVE, INSIDE = "cifar-10-binary.tar", "cifar-10-batches-bin"

CIFAR10.module_name = "moonlet.data.cifar10"
CIFAR10.folder = "cifar10"
CIFAR10.names = {
  "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
}
CIFAR10.mean = { 0.4914, 0.4822, 0.4465 }
CIFAR10.deviation = { 0.2470, 0.2435, 0.2616 }
CIFAR10.mirrors = { "https://www.cs.toronto.edu/~kriz/" }
CIFAR10.files = { [ARCHIVE .. ".gz"] = "c32a1d4ab5d03f1284b67883e8d87530" }
CIFAR10.rebuild = Pictures.rebuilder(CIFAR10)

CIFAR10.schema = { batches = { "table" } }
for name, rule in pairs(Pictures.schema) do CIFAR10.schema[name] = rule end

-- Why a list of batches is none, or nil.
local function problem_with(batches)
  local seen = {}
  for _, number in ipairs(batches) do
    if seen[number] then return ("batches names %s twice"):format(tostring(number)) end
    seen[number] = true
    if type(number) ~= "number" or number ~= math.floor(number) or number < 1
        or number > BATCHES then
      return ("batches must be numbers from 1 to %d; found %s"):format(
        BATCHES, options.show(number))
    end
  end
  if #batches == 0 then return "batches must name one at least, such as { 1, 2 }" end
end

function CIFAR10.check_options(o)
  if not o.batches then return nil end
  if o.split == "test" then return "batches chooses of the training set; the test set has one" end
  return problem_with(o.batches)
end

-- The batches asked for as the names of their files.
local function file_names(o)
  if o.split == "test" then return { "test_batch.bin" } end
  local names = {}
  for i, number in ipairs(o.batches or { 1, 2, 3, 4, 5 }) do
    names[i] = ("data_batch_%d.bin"):format(number)
  end
  return names
end

-- Which of the files lie in a directory: their paths, and the names of those that do not.
local function look(directory, names)
  local paths, missing = {}, {}
  for _, name in ipairs(names) do
    local path = Pictures.locate(directory, name)
    if path then paths[#paths + 1] = path else missing[#missing + 1] = name end
  end
  return paths, missing
end

-- The files of a split, or the archive that has them.
function CIFAR10:find(directories, o)
  local names = file_names(o)
  local most, where, lacking = 0, table.concat(directories, ", "), names
  for _, directory in ipairs(directories) do
    for _, folder in ipairs { directory, directory .. "/" .. INSIDE } do
      local paths, missing = look(folder, names)
      if #missing == 0 then return { paths = paths } end
      if #paths > most then most, where, lacking = #paths, folder, missing end
    end
    local archive = Pictures.locate(directory, ARCHIVE)
    if archive then return { archive = archive, names = names } end
  end
  local advice = most > 0 and ", which has others; batches = { ... } names those to read" or ""
  return nil, ("%s %s not in %s%s"):format(
    table.concat(lacking, ", "), #lacking == 1 and "is" or "are", where, advice)
end

-- What to fetch: the archive, whichever file is missing.
function CIFAR10:absent()
  return { ARCHIVE .. ".gz" }
end

-- One batch's bytes as records (n, 3073).
local function as_records(path, bytes)
  local count = bytes:numel() / RECORD
  if count < 1 or count ~= math.floor(count) then
    error(("%s: holds %d bytes; expected %d (%d records of %d bytes), or a whole number of records")
      :format(path, bytes:numel(), RECORDS * RECORD, RECORDS, RECORD), 0)
  end
  return bytes:view(count, RECORD)
end

-- Each file's path and records, in order.
local function open_batches(found)
  local batches = {}
  if not found.archive then
    for i, path in ipairs(found.paths) do
      batches[i] = { path = path, records = as_records(path, core.read_gzip(path)) }
    end
    return batches
  end
  local members = read_tar(found.archive)
  for i, name in ipairs(found.names) do
    local inside = INSIDE .. "/" .. name
    local bytes = members[inside]
    if not bytes then error(("%s: there is no %s in it"):format(found.archive, inside), 0) end
    local path = found.archive .. ": " .. inside
    batches[i] = { path = path, records = as_records(path, bytes) }
  end
  return batches
end

local function read(self, found)
  local images, labels = {}, {}
  for i, batch in ipairs(open_batches(found)) do
    images[i] = batch.records:narrow(2, 2, PIXELS)
    labels[i] = self:to_labels(batch.path, batch.records:select(2, 1))
  end
  return core.cat(images, 1):view(-1, CHANNELS, SIDE, SIDE), core.cat(labels, 1)
end

-- Pictures and labels out of the batches; their bytes are given back at once.
function CIFAR10:read(found)
  return core.scope(read, self, found)
end

--- Opens CIFAR-10; without root it looks in $MOONLET_DATA/cifar10, data/cifar10,
-- ~/.cache/moonlet/cifar10.
-- @function CIFAR10:init
-- @tparam ?table given root, split = "train" or "test", batches = { 1, 2, 3, 4, 5 } (of the
-- training set), download = false, normalize = false, transform
-- @usage local moon = require "moonlet"
-- local ok, message = pcall(moon.data.CIFAR10, { root = "/no/such/folder", batches = { 1, 2 } })
-- assert(not ok and message:find "data_batch_1.bin, data_batch_2.bin are not in /no/such/folder")

return CIFAR10
