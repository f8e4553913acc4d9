-- Penalties on parameters, to be added to a loss: 0-d tensors on the tape.
--   nn.l1_penalty(net)                  sum |p|                     (Tibshirani 1996)
--   nn.l2_penalty(net)                  sum p^2                     (Hoerl and Kennard 1970)
--   nn.elastic_net_penalty(net, a, b)   a sum |p| + b sum p^2       (Zou and Hastie 2005)

local core = require "moonlet.core"
local options = require "moonlet.options"

local M = {}

-- A module's parameters, or the list that was given.
local function parameters_of(name, what)
  local kind = type(what)
  local list = kind == "table" and what.is_moonlet_module and what:parameters() or what
  if kind ~= "table" or #list == 0 then
    error(("%s: the first argument is a module or a list of parameters, not %s"):format(
      name, kind == "table" and "one without any" or options.show(what)), 3)
  end
  for i, parameter in ipairs(list) do
    if not core.is_tensor(parameter) then
      error(("%s: parameter %d must be a tensor, not %s"):format(
        name, i, options.show(parameter)), 3)
    end
  end
  return list
end

local function total(list, each)
  local sum
  for _, parameter in ipairs(list) do
    local term = each(parameter):sum()
    sum = sum and sum + term or term
  end
  return sum
end

local function factor_of(name, argument, factor)
  return factor == nil and 1 or options.argument(name, argument, factor, "number", 4)
end

--- The sum of absolute values.
-- @param what a module or a list of tensors
-- @number[opt=1] factor times this
-- @usage local net = moon.nn.Linear(2, 1)
-- assert(moon.nn.l1_penalty(net, 0.01):item() > 0)
function M.l1_penalty(what, factor)
  factor = factor_of("nn.l1_penalty", "factor", factor)
  return total(parameters_of("nn.l1_penalty", what), core.abs) * factor
end

--- The sum of squares.
-- @param what a module or a list of tensors
-- @number[opt=1] factor times this
-- @usage assert(moon.nn.l2_penalty({ moon.tensor { 1, 2 } }, 0.5):item() == 2.5)
function M.l2_penalty(what, factor)
  factor = factor_of("nn.l2_penalty", "factor", factor)
  return total(parameters_of("nn.l2_penalty", what), core.square) * factor
end

--- Both together.
-- @param what a module or a list of tensors
-- @number[opt=1] l1 the factor of the absolute values
-- @number[opt=1] l2 the factor of the squares
-- @usage assert(moon.nn.elastic_net_penalty({ moon.tensor { -2 } }, 1, 2):item() == 10)
function M.elastic_net_penalty(what, l1, l2)
  l1 = factor_of("nn.elastic_net_penalty", "l1", l1)
  l2 = factor_of("nn.elastic_net_penalty", "l2", l2)
  local list = parameters_of("nn.elastic_net_penalty", what)
  return total(list, core.abs) * l1 + total(list, core.square) * l2
end

return M
