-- TensorDataset: sample i is the i-th slice of each of several tensors. A one-dimensional tensor
-- gives numbers.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Dataset = require "moonlet.data.dataset"
local unpack = require "moonlet.unpack"

local TensorDataset = Dataset:extend "TensorDataset"

TensorDataset.keeps_nothing = true

--- Makes a dataset of tensors of equal first size.
-- @param ... tensors
-- @usage local moon = require "moonlet"
-- local set = moon.data.TensorDataset(moon.zeros(4, 2), moon.ones(4))
-- assert(set:size() == 4)
function TensorDataset:init(...)
  self.tensors = { ... }
  self.count = select("#", ...)
  if self.count == 0 then error("TensorDataset: needs at least one tensor", 3) end
  for i = 1, self.count do
    local tensor = options.argument("TensorDataset", "tensor " .. i, self.tensors[i], "tensor")
    if tensor:dim() == 0 or tensor:size(1) ~= self.tensors[1]:size(1) then
      error(("TensorDataset: tensor %d is %s but tensor 1 has %d samples"):format(
        i, table.concat(tensor:size(), "x"), self.tensors[1]:size(1)), 3)
    end
    core.keep(tensor)
  end
end

function TensorDataset:size() return self.tensors[1]:size(1) end

function TensorDataset:get(i)
  self:check_index(i)
  local sample = {}
  for k = 1, self.count do sample[k] = self.tensors[k][i] end
  return unpack(sample, 1, self.count)
end

function TensorDataset:batch(indices)
  local parts = {}
  for k = 1, self.count do parts[k] = self.tensors[k]:index_select(1, indices) end
  return unpack(parts, 1, self.count)
end

function TensorDataset:origin()
  return { module = "moonlet.data.tensordataset", arguments = self.tensors, count = self.count }
end

return TensorDataset
