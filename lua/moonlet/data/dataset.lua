-- Dataset: something with size() and get(i), i from 1. get gives one sample as several values,
-- usually a tensor and a label. Optional: batch(indices) gives a whole batch at once for an int64
-- tensor of positions; origin() lets worker threads build the same dataset (see origin.lua);
-- keeps_nothing says that get and batch store no tensor, so that their temporaries can be freed
-- at once.
--
-- Plain array tables are datasets too: { { x, y }, { x, y }, ... }. `wrap` makes one face of all.

local Class = require "moonlet.class"
local unpack = require "moonlet.unpack"

local Dataset = Class:extend "Dataset"

--- How many samples there are; classes replace it.
function Dataset:size()
  error(self.class_name .. ": has no size(); write one", 2)
end

--- Sample `i`, counted from 1; classes replace it.
function Dataset:get()
  error(self.class_name .. ": has no get(i); write one", 2)
end

--- Where the object comes from; nil when it cannot be built elsewhere. See data.named.
function Dataset:origin()
  return rawget(self, "named_origin")
end

--- Fails with a sentence when `i` is no position.
function Dataset:check_index(i)
  if type(i) ~= "number" or i ~= math.floor(i) or i < 1 or i > self:size() then
    error(("%s: there is no sample %s; they are numbered 1 to %d"):format(
      self.class_name, tostring(i), self:size()), 3)
  end
end

function Dataset:__tostring()
  return ("%s of %d samples"):format(self.class_name, self:size())
end

local List = Dataset:extend "List"

function List:init(items) self.items = items end
function List:size() return #self.items end

function List:get(i)
  self:check_index(i)
  local item = self.items[i]
  if type(item) == "table" and getmetatable(item) == nil then return unpack(item) end
  return item
end

function List:origin()
  return { module = "moonlet.data.dataset", arguments = { items = self.items } }
end

--- A dataset whatever it was: an object with size and get as it is, a plain array wrapped.
-- @param value what the user passed
-- @string owner who asks
-- @usage local Dataset = require "moonlet.data.dataset"
-- assert(Dataset.wrap({ { 1, 2 }, { 3, 4 } }, "example"):size() == 2)
function Dataset.wrap(value, owner)
  if type(value) == "table" then
    if getmetatable(value) == nil and value.get == nil then return List(value) end
    if type(value.get) == "function" and type(value.size) == "function" then return value end
  end
  error(owner .. ": a dataset has size() and get(i), or is a plain array of samples", 3)
end

function Dataset.rebuild(arguments) return List(arguments.items) end

return Dataset
