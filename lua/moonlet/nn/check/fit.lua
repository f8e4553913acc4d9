-- What a layer would have taken in place of an input that it refused: the sizes nearest to those it
-- was given, so that a check can go on behind a mismatch with the shape that the layer gives.
-- Layers are read by the names of their fields: dims, kernel, padding, dilation, inputs, channels,
-- shape, width.

local pair = require "moonlet.nn.pair"

local M = {}

--- How many dimensions a layer's windows have: 2 for Conv2d and MaxPool2d; nil without windows.
function M.dims(layer)
  if not layer.kernel then return nil end
  return layer.dims or tonumber(layer.class_name:match "(%d)d$")
end

-- Brings the number of dimensions to n, c and `dims` more.
local function resize(size, dims)
  while #size > dims + 2 do table.remove(size) end
  while #size < dims + 2 do table.insert(size, math.min(2, #size + 1), 1) end
end

-- Windows must fit in between the padding.
local function enlarge(layer, size, dims)
  local kernel = pair.list(layer.kernel, dims)
  local dilation = pair.list(layer.dilation or 1, dims)
  local pads = pair.pads(layer.padding or 0, kernel, dilation)
  for i = 1, dims do
    local last_first = 2 * (dims - i)
    local room = (pads[last_first + 1] or 0) + (pads[last_first + 2] or 0)
    local need = dilation[i] * (kernel[i] - 1) + 1 - room
    size[2 + i] = math.max(size[2 + i], need, 1)
  end
end

local function fit_windows(layer, size)
  local dims = M.dims(layer)
  resize(size, dims)
  if layer.inputs then size[2] = layer.inputs end
  if not layer.transposed then enlarge(layer, size, dims) end
end

local function fit_last(layer, size)
  size[math.max(#size, 1)] = layer.inputs or layer.width
end

local function fit_shape(layer, size)
  local shape = layer.shape
  for i = 1, #shape do size[math.max(#size, #shape) - #shape + i] = shape[i] end
end

local function rule_for(layer)
  if M.dims(layer) then return fit_windows end
  if layer.channels then
    return function(_, size)
      if #size < 2 then size[1] = size[1] or 1 end
      size[2] = layer.channels
    end
  end
  if type(layer.shape) == "table" then return fit_shape end
  if type(layer.inputs) == "number" then return fit_last end
  if type(layer.width) == "number" and not layer.rows then return fit_last end
end

--- The sizes `layer` would take, nearest to `size`; nil where nothing is known.
-- @tparam Module layer
-- @tparam table size a list of whole numbers
function M.sizes(layer, size)
  local rule = rule_for(layer)
  if not rule then return nil end
  local wanted = {}
  for i, n in ipairs(size) do wanted[i] = n end
  rule(layer, wanted)
  return wanted
end

--- The type a layer would take: that of its first parameter, whole numbers for tables of rows.
function M.dtype(layer)
  if layer.rows then return "int64" end
  local first = layer:parameters()[1]
  return first and first.dtype
end

return M
