-- Pictures with labels, held in memory: what such data sets share, whatever their files are.
--
-- The pictures stay uint8 (n, c, h, w); a sample is float32 (c, h, w) from 0 to 1, a label counts
-- from 1. Worker threads get the same two tensors by reference. A subclass gives `names` (of the
-- classes), `mean` and `deviation` of the training set (a number, or a list of one a channel),
-- `folder` and `places` (where to look), `files` (name to MD5), `mirrors`, and
--
--   find(directories, o)   what read takes, from the first directory that has it, or nil and why
--   absent(directory, o)   the names of the files to fetch there
--   read(found)            uint8 pictures (n, c, h, w), int64 labels (n)
--   check_options(o)       a sentence where options do not go together; may be left out

local core = require "moonlet.core"
local options = require "moonlet.options"
local Dataset = require "moonlet.data.dataset"
local download = require "moonlet.data.download"

local Pictures = Dataset:extend "Pictures"

Pictures.schema = {
  root = { "string" }, split = { { "train", "test" }, "train" }, download = { "boolean", false },
  transform = { "callable" }, normalize = { "boolean", false },
}

--- The path of `name` in `directory`, plain or gzip; nil when it is not there.
function Pictures.locate(directory, name)
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

-- Fetches what is absent; fails with what to do by hand.
local function fetch(self, directory, o)
  for _, name in ipairs(self:absent(directory, o)) do
    local ok, reason = download.fetch(directory, name, self.mirrors, self.files[name])
    if not ok then
      error(("%s: could not download %s (%s). Put the file into %s by hand, for example from "
        .. "%s%s, or pass root = the folder that holds it"):format(
        self.class_name, name, reason, directory, self.mirrors[1], name), 0)
    end
  end
end

local function find_or_fetch(self, o)
  local found, why = self:find(candidates(self, o.root), o)
  if found then return found end
  if not o.download then
    error(("%s: %s. Pass download = true to fetch them, or root = the folder that holds them%s")
      :format(self.class_name, why, self.hint or ""), 0)
  end
  local directory = o.root or home() .. "/.cache/moonlet/" .. self.folder
  fetch(self, directory, o)
  found, why = self:find({ directory }, o)
  return found or error(("%s: %s"):format(self.class_name, why), 0)
end

--- uint8 labels that count from 0, as in the files, to int64 labels that count from 1.
-- @string path the file, for the message
-- @tparam tensor labels
function Pictures:to_labels(path, labels)
  local classes = #self.names
  local highest = labels:numel() > 0 and labels:max():item() or 0
  if highest >= classes then
    error(("%s: holds label %d; 0 to %d were expected"):format(path, highest, classes - 1), 0)
  end
  return labels:to("int64"):add(1)
end

-- f(mean, deviation): a number, or a tensor (c, 1, 1) where there is one of them a channel.
local function each_channel(self, f)
  local mean, deviation = self.mean, self.deviation
  if type(mean) == "number" then return f(mean, deviation) end
  local values = {}
  for c = 1, #mean do values[c] = f(mean[c], deviation[c]) end
  return core.keep(core.tensor(values):view(#values, 1, 1))
end

local function use(self, images, labels, o)
  self.images, self.labels = core.keep(images), core.keep(labels)
  self.transform, self.normalize, self.split = o.transform, o.normalize, o.split
  if o.normalize then
    self.scale = each_channel(self, function(_, deviation) return 1 / (255 * deviation) end)
    self.shift = each_channel(self, function(mean, deviation) return mean / deviation end)
  end
  local transform = o.transform
  self.keeps_nothing = transform == nil
    or type(transform) == "table" and transform.keeps_nothing or false
end

-- Any options go together, unless a subclass knows better.
function Pictures.check_options() end

--- Opens one split.
-- @tparam ?table given root, split = "train" or "test", download = false, normalize = false (to
-- mean 0, deviation 1 of the training set), transform (of a picture, applied last)
function Pictures:init(given)
  local o = options.read(self.class_name, given, self.schema)
  local problem = self.check_options(o)
  if problem then error(self.class_name .. ": " .. problem, 3) end
  local images, labels = self:read(find_or_fetch(self, o))
  use(self, images, labels, o)
end

function Pictures:size() return self.labels:numel() end

-- uint8 to float 0..1, or to mean 0 and deviation 1.
local function to_float(self, pictures)
  local x = pictures:to("float32")
  if not self.normalize then return x:mul_(1 / 255) end
  return x:mul_(self.scale):sub_(self.shift)
end

--- Sample i: picture (c, h, w) and label, counted from 1.
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

--- Many samples at once: pictures (n, c, h, w), labels (n).
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
    return self
  end
end

return Pictures
