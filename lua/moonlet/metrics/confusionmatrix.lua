-- ConfusionMatrix: counts[actual][predicted] over any number of batches. Kept as Lua numbers: it is
-- small, and adding a batch is one pass over its labels.

local options = require "moonlet.options"
local Class = require "moonlet.class"

local ConfusionMatrix = Class:extend "ConfusionMatrix"

--- Makes an empty matrix.
-- @int classes how many classes there are
-- @tparam ?table given names = list of class names, for printing and pictures
-- @usage local moon = require "moonlet"
-- local m = moon.metrics.ConfusionMatrix(2)
-- m:add({ 1, 2, 2 }, { 1, 2, 1 })
-- assert(m:accuracy() == 2 / 3 and m.counts[1][2] == 1)
function ConfusionMatrix:init(classes, given)
  self.classes = options.argument("ConfusionMatrix", "classes", classes, "positive")
  self.names = options.read("ConfusionMatrix", given, { names = { "table" } }).names
  self.counts = {}
  for i = 1, classes do
    self.counts[i] = {}
    for j = 1, classes do self.counts[i][j] = 0 end
  end
end

local function as_table(value)
  return type(value) == "table" and value or value:totable()
end

--- Adds a batch.
-- @param predicted tensor or table of classes, or scores (n, classes)
-- @param actual tensor or table of labels
function ConfusionMatrix:add(predicted, actual)
  Class.check_self(self, ConfusionMatrix, "add", "matrix")
  if type(predicted) ~= "table" and predicted:dim() == 2 then predicted = predicted:argmax(2) end
  local guesses, labels = as_table(predicted), as_table(actual)
  if #guesses ~= #labels then
    error(("ConfusionMatrix: %d predictions for %d labels"):format(#guesses, #labels), 2)
  end
  for i, label in ipairs(labels) do
    local row = self.counts[label]
    if not row or not row[guesses[i]] then
      error(("ConfusionMatrix: class %s is outside 1 to %d"):format(
        tostring(row and guesses[i] or label), self.classes), 2)
    end
    row[guesses[i]] = row[guesses[i]] + 1
  end
end

--- All samples added.
function ConfusionMatrix:total()
  local sum = 0
  for i = 1, self.classes do
    for j = 1, self.classes do sum = sum + self.counts[i][j] end
  end
  return sum
end

--- Part of all samples that are right.
function ConfusionMatrix:accuracy()
  Class.check_self(self, ConfusionMatrix, "accuracy", "matrix")
  local right = 0
  for i = 1, self.classes do right = right + self.counts[i][i] end
  return right / math.max(self:total(), 1)
end

--- Part of class i's samples that are right.
function ConfusionMatrix:recall(i)
  local sum = 0
  for j = 1, self.classes do sum = sum + self.counts[i][j] end
  return self.counts[i][i] / math.max(sum, 1)
end

--- Part of the samples taken for class i that are of it.
function ConfusionMatrix:precision(i)
  local sum = 0
  for j = 1, self.classes do sum = sum + self.counts[j][i] end
  return self.counts[i][i] / math.max(sum, 1)
end

function ConfusionMatrix:__tostring()
  local lines = {}
  for i = 1, self.classes do
    local cells = {}
    for j = 1, self.classes do cells[j] = ("%6d"):format(self.counts[i][j]) end
    local name = self.names and self.names[i] or tostring(i)
    lines[i] = ("%-12s %s  %6.2f %%"):format(name, table.concat(cells), 100 * self:recall(i))
  end
  return table.concat(lines, "\n")
end

return ConfusionMatrix
