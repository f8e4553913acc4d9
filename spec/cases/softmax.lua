-- Cases of softmax, its logarithm and its opposite, along any dimension.
local case = require "spec.support.case"
local naive = require "spec.support.naive"

local T = case.float
local exp, log = math.exp, math.log
local unpack = table.unpack or unpack

-- f(x, sum of exp(sign * x) along dim), sign 1 or -1
local function along(sign, f)
  return function(x, dim)
    dim = dim or -1
    if dim < 0 then dim = x:dim() + 1 + dim end
    return naive.build(x:size(), function(at)
      if x:dim() == 0 then return f(x:item(), exp(sign * x:item())) end
      local place, sum = { unpack(at) }, 0
      for i = 1, x:size(dim) do
        place[dim] = i
        sum = sum + exp(sign * naive.at(x, place))
      end
      return f(naive.at(x, at), sum)
    end)
  end
end

local function entry(name, reference)
  return {
    naive = reference,
    cases = {
      { T { 3, 4 }, torch = "F." .. name .. "(a, -1)" },
      { T { 2, 3, 4 }, 2, torch = "F." .. name .. "(a, 1)" },
      { T { 2, 3, 2, 2 }, 1, torch = "F." .. name .. "(a, 0)" },
      { T { 2, 1 }, 2, torch = "F." .. name .. "(a, 1)" },
      { T {}, torch = "F." .. name .. "(a, -1)" },
      { T { 0, 3 }, 2, torch = "F." .. name .. "(a, 1)" },
      { T { 3, 0 }, 2, torch = "F." .. name .. "(a, 1)" },
    },
    large = { T { 40, 50, 60 }, 2 },
    fuzz = function(draw)
      local shape = {}
      for i = 1, draw(1, 4) do shape[i] = draw(1, 5) end
      return { T(shape, { low = -5, high = 5 }), draw(1, #shape) }
    end,
  }
end

return {
  softmax = entry("softmax", along(1, function(x, sum) return exp(x) / sum end)),
  log_softmax = entry("log_softmax", along(1, function(x, sum) return x - log(sum) end)),
  softmin = entry("softmin", along(-1, function(x, sum) return exp(-x) / sum end)),
}
