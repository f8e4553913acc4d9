-- What RNNCell, LSTMCell and GRUCell share: one step of a recurrent layer, with PyTorch's names of
-- parameters. x (n, in), states (n, hidden), zeros where left out; x (in) for a single one.

local core = require "moonlet.core"
local options = require "moonlet.options"
local Module = require "moonlet.nn.module"
local parameter = require "moonlet.nn.parameter"

local function uniform(tensor, bound) tensor:uniform_(-bound, bound) end

local function zeros_for(self, x)
  local shape = x:size()
  shape[#shape] = self.hidden
  return core.zeros(shape, { dtype = x.dtype, device = x.device })
end

--- Makes a cell's class.
-- @string name the class's name
-- @string operator the operator's name
-- @int gates rows of a weight for each element of the state
-- @tparam ?table extra option schema besides the shared one
return function(name, operator, gates, extra)
  local Cell = Module:extend(name)
  local schema = { bias = { "boolean", true }, dtype = { "string", "float32" } }
  for key, rule in pairs(extra or {}) do schema[key] = rule end

  function Cell:init(inputs, hidden, given)
    options.argument(name, "inputs", inputs, "positive")
    options.argument(name, "hidden", hidden, "positive")
    local o = options.read(name, given, schema)
    self.inputs, self.hidden, self.nonlinearity = inputs, hidden, o.nonlinearity
    local rows, dtype = gates * hidden, { dtype = o.dtype }
    self.weight_ih = parameter(core.empty(rows, inputs, dtype))
    self.weight_hh = parameter(core.empty(rows, hidden, dtype))
    if o.bias then
      self.bias_ih = parameter(core.empty(rows, dtype))
      self.bias_hh = parameter(core.empty(rows, dtype))
    end
    for _, tensor in ipairs(self:parameters()) do
      core.no_grad(uniform, tensor, 1 / math.sqrt(hidden))
    end
  end

  function Cell:forward(x, h, c)
    self:need_tensor(x)
    local o = { b_ih = self.bias_ih, b_hh = self.bias_hh, nonlinearity = self.nonlinearity }
    h = h or zeros_for(self, x)
    if operator ~= "lstm_cell" then
      return core[operator](x, h, self.weight_ih, self.weight_hh, o)
    end
    return core.lstm_cell(x, h, c or zeros_for(self, x), self.weight_ih, self.weight_hh, o)
  end

  function Cell:describe()
    return ("%d, %d%s"):format(self.inputs, self.hidden, self.bias_ih and "" or ", bias = false")
  end

  return Cell
end
