-- Subset: the samples of another dataset at given positions.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Dataset = require "moonlet.data.dataset"

local Subset = Dataset:extend "Subset"

local function positions(given)
  if core.is_tensor(given) then return given end
  options.argument("Subset", "positions", given, "table", 5)
  return core.tensor(given, { dtype = "int64" })
end

--- Part of a dataset.
-- @param dataset any dataset
-- @param given an int64 tensor or a table of positions
-- @usage local moon = require "moonlet"
-- local part = moon.data.Subset({ { 10 }, { 20 }, { 30 } }, { 3, 1 })
-- assert(part:size() == 2 and part:get(1) == 30)
function Subset:init(dataset, given)
  self.dataset = Dataset.wrap(dataset, "Subset")
  self.positions = core.keep(positions(given))
  self.keeps_nothing = self.dataset.keeps_nothing
  local count = self.positions:numel()
  if count > 0 then
    local low, high = self.positions:min():item(), self.positions:max():item()
    if low < 1 or high > self.dataset:size() then
      error(("Subset: position %d is outside 1 to %d"):format(
        low < 1 and low or high, self.dataset:size()), 3)
    end
  end
  if self.dataset.batch then
    self.batch = function(subset, indices)
      return subset.dataset:batch(subset.positions:index_select(1, indices))
    end
  end
end

function Subset:size() return self.positions:numel() end

function Subset:get(i)
  self:check_index(i)
  return self.dataset:get(self.positions[i])
end

function Subset:origin()
  return {
    module = "moonlet.data.subset", arguments = { self.dataset, self.positions }, count = 2,
  }
end

return Subset
