-- Embedding: a table whose rows are picked by number, y[i] = weight[x[i]].
-- x whole numbers from 1 of any shape, weight (rows, width), y x's shape and width
-- (Bengio et al. 2003)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local Embedding = Module:extend "Embedding"

Embedding.schema = {
  padding_index = { "integer" }, max_norm = { "number" }, norm_type = { "number", 2 },
  dtype = { "string", "float32" },
}

local function clear(row) row:zero_() end

-- What EmbeddingBag has as well: sizes, options and the table, normal with deviation 1.
function Embedding.set_up(self, rows, width, given, schema)
  local name = self.class_name
  options.argument(name, "rows", rows, "positive", 5)
  options.argument(name, "width", width, "positive", 5)
  local o = options.read(name, given, schema, 5)
  local padding = o.padding_index
  if padding and (padding == 0 or padding > rows or padding < -rows) then
    error(("%s: padding_index must be a row from 1 to %d or count from the end, not %d"):format(
      name, rows, padding), 4)
  end
  if o.max_norm and o.max_norm <= 0 then
    error(("%s: max_norm must be above 0, not %g"):format(name, o.max_norm), 4)
  end
  self.rows, self.width = rows, width
  for key, value in pairs(o) do if key ~= "dtype" then self[key] = value end end
  self.weight = parameter(core.randn(rows, width, { dtype = o.dtype }))
  if padding then core.no_grad(clear, self.weight:detach():select(1, padding)) end
end

-- Rows that grew above max_norm are scaled down before they are read, off the tape.
function Embedding.renorm(self, index)
  if self.max_norm then
    core.no_grad(self.weight.embedding_renorm_, self.weight, index, self.max_norm, self.norm_type)
  end
end

--- A table of rows to learn.
-- @int rows how many
-- @int width elements of a row
-- @tparam ?table given padding_index (a row of zeros without gradient), max_norm, norm_type = 2,
-- dtype = "float32"
-- @usage local moon = require "moonlet"
-- local words = moon.nn.Embedding(100, 8)
-- local y = words(moon.tensor({ { 3, 1, 4 } }, { dtype = "int64" }))
-- assert(y:size(2) == 3 and y:size(3) == 8)
function Embedding:init(rows, width, given)
  Embedding.set_up(self, rows, width, given, Embedding.schema)
end

function Embedding:forward(index)
  Embedding.renorm(self, index)
  return core.embedding(self.weight, index, self.padding_index)
end

function Embedding:describe()
  return ("%d, %d%s"):format(self.rows, self.width,
    self.padding_index and (", padding_index = %d"):format(self.padding_index) or "")
end

return Embedding
