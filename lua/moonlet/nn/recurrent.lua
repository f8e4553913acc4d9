-- What the recurrent layers RNN, LSTM and GRU share: their parameters, under PyTorch's names
-- (weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, "_reverse" for the second direction; layers
-- count from 0 there), their options, and the call of the operator. nn.recurrent(name, operator,
-- gates, extra) makes the class.
--
-- x (steps, n, in), with batch_first (n, steps, in), for one sequence (steps, in);
-- out (steps, n, directions hidden), states (layers directions, n, hidden)

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local shown = { "layers", "bias", "batch_first", "dropout", "bidirectional", "nonlinearity" }
local defaults = {
  layers = 1, bias = true, batch_first = false, dropout = 0, bidirectional = false,
  nonlinearity = "tanh",
}

local function schema_of(extra)
  local schema = {
    layers = { "positive", 1 }, bias = { "boolean", true }, batch_first = { "boolean", false },
    dropout = { "number", 0 }, bidirectional = { "boolean", false },
    dtype = { "string", "float32" },
  }
  for name, rule in pairs(extra or {}) do schema[name] = rule end
  return schema
end

local function uniform(tensor, bound) tensor:uniform_(-bound, bound) end

-- Calls visit(name) for the names of all parameters in the operator's order.
local function each_name(layer, visit)
  for number = 0, layer.layers - 1 do
    for _, side in ipairs(layer.bidirectional and { "", "_reverse" } or { "" }) do
      for _, kind in ipairs(layer.bias and { "weight_ih", "weight_hh", "bias_ih", "bias_hh" }
        or { "weight_ih", "weight_hh" }) do
        visit(("%s_l%d%s"):format(kind, number, side), kind, number)
      end
    end
  end
end

local function add_parameters(self, gates, dtype)
  local directions = self.bidirectional and 2 or 1
  local rows, bound = gates * self.hidden, 1 / math.sqrt(self.hidden)
  each_name(self, function(name, kind, number)
    local shape = { rows }
    if kind == "weight_ih" then
      shape[2] = number == 0 and self.inputs or self.hidden * directions
    elseif kind == "weight_hh" then
      shape[2] = self.hidden
    end
    self[name] = parameter(core.empty(shape, { dtype = dtype }))
    core.no_grad(uniform, self[name], bound)
  end)
end

-- A list of numbers as the tensor the operator takes.
local function lengths_of(given)
  if type(given) ~= "table" then return given end
  return core.tensor(given, { dtype = "int64" })
end

-- The call's trailing options, if any, and the states before it.
local function split_arguments(name, ...)
  local last = (select(math.max(1, select("#", ...)), ...))
  if type(last) ~= "table" then return nil, ... end
  local o = options.read(name, last, { lengths = { "any" } }, 5)
  if select("#", ...) == 1 then return o.lengths end
  return o.lengths, ...
end

--- Makes a recurrent layer's class.
-- @string name the class's name
-- @string operator the operator's name
-- @int gates rows of a weight for each element of the state
-- @tparam ?table extra option schema besides the shared one
return function(name, operator, gates, extra)
  local Layer = Module:extend(name)
  local schema = schema_of(extra)
  local has_cell = operator == "lstm"

  function Layer:init(inputs, hidden, given)
    options.argument(name, "inputs", inputs, "positive")
    options.argument(name, "hidden", hidden, "positive")
    local o = options.read(name, given, schema)
    if not (o.dropout >= 0 and o.dropout < 1) then
      error(("%s: dropout must be from 0 up to but not including 1, not %g"):format(
        name, o.dropout), 3)
    end
    self.inputs, self.hidden = inputs, hidden
    for _, key in ipairs(shown) do self[key] = o[key] end
    add_parameters(self, gates, o.dtype)
  end

  --- The parameters in the order in which the operator takes them.
  function Layer:weights()
    local list = {}
    each_name(self, function(parameter_name) list[#list + 1] = self[parameter_name] end)
    return list
  end

  function Layer:forward(x, ...)
    local lengths, h0, c0 = split_arguments(name, ...)
    return core[operator](x, self:weights(), {
      h0 = h0, c0 = has_cell and c0 or nil, layers = self.layers, bias = self.bias,
      dropout = self.dropout, training = self.training, bidirectional = self.bidirectional,
      batch_first = self.batch_first, lengths = lengths_of(lengths),
      nonlinearity = self.nonlinearity,
    })
  end

  function Layer:describe()
    local parts = { self.inputs, self.hidden }
    for _, key in ipairs(shown) do
      if self[key] ~= nil and self[key] ~= defaults[key] then
        parts[#parts + 1] = ("%s = %s"):format(key, options.show(self[key]))
      end
    end
    return table.concat(parts, ", ")
  end

  return Layer
end
