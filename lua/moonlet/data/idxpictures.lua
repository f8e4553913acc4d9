-- What MNIST and Fashion-MNIST share: four IDX files of 28 x 28 grey pictures and ten labels.
--
-- The pictures stay uint8 in memory; a sample is float32 (1, 28, 28) from 0 to 1, a label is 1 to
-- 10. Worker threads get the same two tensors by reference. A subclass gives `names` (class names),
-- `files` (MD5s), `mirrors`, `places` (where to look) and `mean`, `deviation` of the training set.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Dataset = require "moonlet.data.dataset"
local read_idx = require "moonlet.data.idx"
local download = require "moonlet.data.download"

local Pictures = Dataset:extend "IdxPictures"

local CLASSES = 10
local prefixes = { train = "train", test = "t10k" }

local schema = {
  root = { "string" }, split = { { "train", "test" }, "train" }, download = { "boolean", false },
  transform = { "callable" }, normalize = { "boolean", false },
}

local function file_names(split)
  local prefix = prefixes[split]
  return prefix .. "-images-idx3-ubyte", prefix .. "-labels-idx1-ubyte"
end

-- The path of `name` in `directory`, plain or gzip; nil when it is not there.
local function locate(directory, name)
  for _, ending in ipairs { ".gz", "" } do
    local path = directory .. "/" .. name .. ending
    if core.file_exists(path) then return path end
  end
end

local function home() return os.getenv("HOME") or "." end

-- Directories to look in: the one given, or the usual ones.
local function candidates(self, root)
  if root then return { root } end
  local list = {}
  local data = os.getenv("MOONLET_DATA")
  if data then list[1] = data .. "/" .. self.folder end
  list[#list + 1] = "data/" .. self.folder
  list[#list + 1] = home() .. "/.cache/moonlet/" .. self.folder
  for _, place in ipairs(self.places or {}) do list[#list + 1] = place end
  return list
end

local function find_files(self, root, split)
  local images_name, labels_name = file_names(split)
  local places = candidates(self, root)
  for _, directory in ipairs(places) do
    local images, labels = locate(directory, images_name), locate(directory, labels_name)
    if images and labels then return images, labels end
  end
  return nil, ("%s: %s.gz and %s.gz are not in %s"):format(
    self.class_name, images_name, labels_name, table.concat(places, ", "))
end

-- Fetches the split's two files that are missing; fails with what to do by hand.
local function fetch(self, directory, split)
  for _, base in ipairs { file_names(split) } do
    local name = base .. ".gz"
    if not locate(directory, base) then
      local ok, reason = download.fetch(directory, name, self.mirrors, self.files[name])
      if not ok then
        error(("%s: could not download %s (%s). Put the file into %s by hand, for example from "
          .. "%s%s, or pass root = the folder that holds it"):format(
          self.class_name, name, reason, directory, self.mirrors[1], name), 0)
      end
    end
  end
end

local function open_files(self, o)
  local images, labels = find_files(self, o.root, o.split)
  if images then return images, labels end
  local message = labels
  if not o.download then
    error(("%s. Pass download = true to fetch them, or root = the folder that holds them%s")
      :format(message, self.hint or ""), 0)
  end
  local directory = o.root or home() .. "/.cache/moonlet/" .. self.folder
  fetch(self, directory, o.split)
  images, labels = find_files(self, directory, o.split)
  return images, labels
end

local function check_labels(path, labels)
  if labels:numel() == 0 then return end
  local highest = labels:max():item()
  if highest >= CLASSES then
    error(("%s: holds label %d; 0 to %d were expected"):format(path, highest, CLASSES - 1), 0)
  end
end

local function read_pair(images_path, labels_path)
  local images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
  if images:size(1) ~= labels:size(1) then
    error(("%s holds %d pictures but %s %d labels"):format(
      images_path, images:size(1), labels_path, labels:size(1)), 0)
  end
  check_labels(labels_path, labels)
  return images:unsqueeze(2), labels:to("int64"):add(1)
end

local function use(self, images, labels, o)
  self.images, self.labels = core.keep(images), core.keep(labels)
  self.transform, self.normalize = o.transform, o.normalize
  local transform = o.transform
  self.keeps_nothing = transform == nil
    or type(transform) == "table" and transform.keeps_nothing or false
end

--- Opens one split.
-- @tparam ?table given root, split = "train" or "test", download = false, normalize = false (to
-- mean 0, deviation 1 of the training set), transform (of a picture, applied last)
function Pictures:init(given)
  local o = options.read(self.class_name, given, schema)
  local images_path, labels_path = open_files(self, o)
  local images, labels = read_pair(images_path, labels_path)
  use(self, images, labels, o)
  self.split = o.split
end

function Pictures:size() return self.labels:numel() end

-- uint8 to float 0..1, or to mean 0 and deviation 1.
local function to_float(self, pictures)
  local x = pictures:to("float32")
  if not self.normalize then return x:mul_(1 / 255) end
  return x:mul_(1 / (255 * self.deviation)):sub_(self.mean / self.deviation)
end

--- Sample i: picture (1, 28, 28) and label 1 to 10.
function Pictures:get(i)
  self:check_index(i)
  local picture = to_float(self, self.images:select(1, i))
  if self.transform then picture = self.transform(picture) end
  return picture, self.labels[i]
end

local function transform_each(transform, pictures)
  local results = {}
  for i = 1, pictures:size(1) do results[i] = transform(pictures:select(1, i)) end
  return core.stack(results, 1)
end

--- Many samples at once: pictures (n, 1, 28, 28), labels (n).
function Pictures:batch(indices)
  local pictures = to_float(self, self.images:index_select(1, indices))
  local transform = self.transform
  if transform then
    local whole = type(transform) == "table" and transform.takes_batches
    pictures = whole and transform(pictures) or transform_each(transform, pictures)
  end
  return pictures, self.labels:index_select(1, indices)
end

function Pictures:origin()
  if not rawget(getmetatable(self), "rebuild") then return rawget(self, "named_origin") end
  return {
    module = self.module_name,
    arguments = {
      images = self.images, labels = self.labels, transform = self.transform,
      normalize = self.normalize, split = self.split,
    },
  }
end

--- Makes the `rebuild` of a subclass: the same dataset on tensors that are there already.
function Pictures.rebuilder(class)
  return function(arguments)
    local self = setmetatable({}, class)
    use(self, arguments.images, arguments.labels, arguments)
    self.split = arguments.split
    return self
  end
end

return Pictures
