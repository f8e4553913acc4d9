-- Receptive fields: how many inputs along each dimension one output sees (its field), and how many
-- inputs two neighbouring outputs lie apart (its stride). A window of k at stride s and dilation d
-- takes field r and stride j to r + (k - 1) d j and j s (Araujo, Norris and Sim 2019); a transposed
-- one sees ceil(k / s) inputs and divides the stride.

local fit = require "moonlet.nn.check.fit"
local pair = require "moonlet.nn.pair"

local M = {}

--- The field of an input of these sizes, (n, c, ...): 1 in each dimension behind the channels.
function M.start(size)
  local info = { field = {}, stride = {} }
  for i = 3, #size do info.field[i - 2], info.stride[i - 2] = 1, 1 end
  return info
end

local function advance(info, i, kernel, stride, dilation)
  return info.field[i] + (kernel - 1) * dilation * info.stride[i], info.stride[i] * stride
end

local function windows(info, layer, dims)
  local after = { field = {}, stride = {}, windows = true }
  local kernel = pair.list(layer.kernel, dims)
  local stride = pair.list(layer.stride or (layer.weight and 1) or layer.kernel, dims)
  local dilation = pair.list(layer.dilation or 1, dims)
  for i = 1, dims do
    if layer.transposed then
      local seen = math.ceil(((kernel[i] - 1) * dilation[i] + 1) / stride[i])
      after.field[i], after.stride[i] = advance(info, i, seen, 1 / stride[i], 1)
    else
      after.field[i], after.stride[i] = advance(info, i, kernel[i], stride[i], dilation[i])
    end
  end
  return after
end

-- Layers that say an output size, or a factor, and no window: as if windows lay side by side.
local function scaled(info, before, size)
  local after = { field = {}, stride = {}, windows = true }
  for i = 1, #info.field do
    local from, to = before[i + 2], size[i + 2]
    local stride = from > to and to > 0 and math.floor(from / to) or to > 0 and from / to or 1
    local kernel = from > to and from - (to - 1) * stride or 1
    after.field[i], after.stride[i] = advance(info, i, kernel, stride, 1)
  end
  return after
end

local function same_space(a, b)
  for i = 3, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

--- The field behind a layer that took sizes `before` to sizes `size`.
function M.behind(info, layer, before, size)
  if info.all or #info.field == 0 then return info end
  if #before >= 3 and #size < #before then return { all = true, field = {}, stride = {} } end
  local dims = fit.dims(layer)
  if dims and dims == #info.field then return windows(info, layer, dims) end
  local spatial = #before == #size and #before == #info.field + 2
  if not spatial or same_space(before, size) or layer:parameters()[1] then return info end
  return scaled(info, before, size)
end

-- How much an output sees, to compare.
local function extent(info)
  if info.all then return math.huge end
  local product = 1
  for _, n in ipairs(info.field) do product = product * n end
  return product
end

--- The larger of two; either may be nil.
function M.larger(a, b)
  if not a or not b then return a or b end
  return extent(b) >= extent(a) and b or a
end

return M
