-- What MNIST and Fashion-MNIST share: four IDX files of 28 x 28 grey pictures and ten labels.

local Pictures = require "moonlet.data.pictures"
local read_idx = require "moonlet.data.idx"

local IdxPictures = Pictures:extend "IdxPictures"

local prefixes = { train = "train", test = "t10k" }

local function file_names(split)
  local prefix = prefixes[split]
  return prefix .. "-images-idx3-ubyte", prefix .. "-labels-idx1-ubyte"
end

-- The paths of a split's two files.
function IdxPictures:find(directories, o)
  local images_name, labels_name = file_names(o.split)
  for _, directory in ipairs(directories) do
    local images = Pictures.locate(directory, images_name)
    local labels = Pictures.locate(directory, labels_name)
    if images and labels then return { images = images, labels = labels } end
  end
  return nil, ("%s.gz and %s.gz are not in %s"):format(
    images_name, labels_name, table.concat(directories, ", "))
end

-- The split's files that are missing.
function IdxPictures:absent(directory, o)
  local names = {}
  for _, name in ipairs { file_names(o.split) } do
    if not Pictures.locate(directory, name) then names[#names + 1] = name .. ".gz" end
  end
  return names
end

-- Pictures and labels out of two files, one each.
function IdxPictures:read(found)
  local images, labels = read_idx(found.images, 3), read_idx(found.labels, 1)
  if images:size(1) ~= labels:size(1) then
    error(("%s holds %d pictures but %s %d labels"):format(
      found.images, images:size(1), found.labels, labels:size(1)), 0)
  end
  return images:unsqueeze(2), self:to_labels(found.labels, labels)
end

return IdxPictures
