-- nn.summary: a table of a network's layers with output shape and number of parameters, found by
-- passing one batch of zeros through it in evaluation mode, off the tape.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Module = require "moonlet.nn.module"
local state_of = require "moonlet.nn.state"
local thousands = require "moonlet.nn.thousands"

local byte_sizes = {
  float64 = 8, float32 = 4, float16 = 2, bfloat16 = 2, int64 = 8, int32 = 4, uint8 = 1, bool = 1,
}

local Summary = Class:extend "Summary"

-- The size of one sample: without the batch.
local function sample_text(value)
  if not core.is_tensor(value) then return type(value) end
  local size = value:size()
  table.remove(size, 1)
  return #size == 0 and "1" or table.concat(size, " x ")
end

local function own_parameters(module)
  local count = 0
  for _, parameter in ipairs(module:parameters()) do count = count + parameter:numel() end
  return count
end

-- Puts a recording forward into every leaf; returns a function that takes them out again.
local function record(net, rows)
  local touched = {}
  for name, module in net:named_modules() do
    if #module:children() == 0 and not rawget(module, "forward") then
      local class_forward = module.forward
      rawset(module, "forward", function(self, ...)
        local y = class_forward(self, ...)
        rows[#rows + 1] = {
          name = name, layer = self.class_name, shape = sample_text(y),
          parameters = own_parameters(self),
          bytes = core.is_tensor(y) and y:numel() * byte_sizes[y.dtype] or 0,
        }
        return y
      end)
      touched[#touched + 1] = module
    end
  end
  return function()
    for _, module in ipairs(touched) do rawset(module, "forward", nil) end
  end
end

local function remember_modes(net)
  local modes = {}
  for _, module in net:named_modules() do modes[module] = rawget(module, "training") end
  return function()
    for _, module in net:named_modules() do rawset(module, "training", modes[module]) end
  end
end

local function first_dtype(net)
  local parameter = net:parameters()[1]
  return parameter and parameter.dtype or "float32"
end

local function zeros_for(net, shape)
  local size = { 1 }
  for i, n in ipairs(shape) do size[i + 1] = n end
  return core.zeros(size, { dtype = first_dtype(net) })
end

local function totals(summary, net)
  for _, parameter in ipairs(net:parameters()) do
    summary.parameters = summary.parameters + parameter:numel()
    summary.bytes = summary.bytes + parameter:numel() * byte_sizes[parameter.dtype]
    if parameter.requires_grad then
      summary.trainable = summary.trainable + parameter:numel()
    end
  end
  for _, row in ipairs(summary.rows) do summary.activations = summary.activations + row.bytes end
end

function Summary:init(net, shape)
  self.rows = {}
  self.parameters, self.trainable, self.bytes, self.activations = 0, 0, 0, 0
  local restore_modes = remember_modes(net)
  local remove = record(net, self.rows)
  net:eval()
  local ok, message = pcall(core.no_grad, net.forward, net, zeros_for(net, shape))
  remove()
  restore_modes()
  if not ok then error(message, 0) end
  totals(self, net)
end

local function memory_text(bytes)
  if bytes < 2 ^ 20 then return ("%.1f KiB"):format(bytes / 2 ^ 10) end
  return ("%.1f MiB"):format(bytes / 2 ^ 20)
end

local function widths(rows)
  local width = { #"layer", #"output shape", #"parameters" }
  for _, row in ipairs(rows) do
    for i = 1, 3 do width[i] = math.max(width[i], #row[i]) end
  end
  return width
end

function Summary:__tostring()
  local rows = {}
  for i, row in ipairs(self.rows) do
    local name = row.name == "" and row.layer or ("%s (%s)"):format(row.layer, row.name)
    rows[i] = { name, row.shape, thousands(row.parameters) }
  end
  local width = widths(rows)
  local format = ("%%-%ds  %%%ds  %%%ds"):format(width[1], width[2], width[3])
  local rule = ("-"):rep(width[1] + width[2] + width[3] + 4)
  local lines = { format:format("layer", "output shape", "parameters"), rule }
  for _, row in ipairs(rows) do lines[#lines + 1] = format:format(row[1], row[2], row[3]) end
  lines[#lines + 1] = rule
  lines[#lines + 1] = ("%s parameters (%s), %s trainable; activations of one input %s"):format(
    thousands(self.parameters), memory_text(self.bytes), thousands(self.trainable),
    memory_text(self.activations))
  return table.concat(lines, "\n")
end

--- Sums up a network; print the result.
-- @tparam Module net
-- @tparam table shape of one input, without the batch: {1, 28, 28}
-- @usage local nn = require "moonlet".nn
-- local table_of_layers = nn.summary(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), { 4 })
-- assert(table_of_layers.parameters == 15)
return function(net, shape)
  if not Class.is_instance(net, Module) then
    error("nn.summary: the first argument is a module, not " .. options.show(net), 2)
  end
  options.argument("nn.summary", "shape", shape, "table", 3)
  state_of.require_shapes(net, "nn.summary")
  return Summary(net, shape)
end
