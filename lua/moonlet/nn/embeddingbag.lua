-- EmbeddingBag: the sum, mean or largest of groups of a table's rows.
-- x (bags, size), or (n) with offsets (bags), the position of each bag's first member;
-- weight (rows, width), y (bags, width) (Joulin et al. 2016)

local core = require "moonlet.core"
local Module = require "moonlet.nn.module"
local Embedding = require "moonlet.nn.embedding"

local EmbeddingBag = Module:extend "EmbeddingBag"

local schema = {
  mode = { { "sum", "mean", "max" }, "mean" }, include_last_offset = { "boolean", false },
}
for name, rule in pairs(Embedding.schema) do schema[name] = rule end

--- A table of rows to learn, read in groups.
-- @int rows how many
-- @int width elements of a row
-- @tparam ?table given mode = "mean", padding_index (rows that do not count), max_norm,
-- norm_type = 2, include_last_offset = false, dtype = "float32"
-- @usage local moon = require "moonlet"
-- local bag = moon.nn.EmbeddingBag(100, 8, { mode = "sum" })
-- local words = moon.tensor({ 3, 1, 4, 1, 5 }, { dtype = "int64" })
-- local starts = moon.tensor({ 1, 3 }, { dtype = "int64" })
-- assert(bag(words, starts):size(1) == 2)
function EmbeddingBag:init(rows, width, given)
  Embedding.set_up(self, rows, width, given, schema)
end

--- @tparam tensor index
-- @tparam ?tensor offsets
-- @tparam ?tensor per_sample_weights of index's shape, for mode "sum"
function EmbeddingBag:forward(index, offsets, per_sample_weights)
  Embedding.renorm(self, index)
  return core.embedding_bag(self.weight, index, {
    offsets = offsets, mode = self.mode, per_sample_weights = per_sample_weights,
    padding_index = self.padding_index, include_last_offset = self.include_last_offset,
  })
end

function EmbeddingBag:describe()
  return ('%d, %d, mode = "%s"'):format(self.rows, self.width, self.mode)
end

return EmbeddingBag
