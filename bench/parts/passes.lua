-- What is measured of a network: its forward pass, or a training step of SGD with momentum.

local moon = require "moonlet"

local M = {}

local RATE = 1e-3   -- small, so that labels without sense do no harm

function M.scores_of(net, x)
  return moon.no_grad(function() return net(x) end)
end

-- fn under mixed precision where that is asked for.
local function in_dtype(dtype, fn)
  if dtype == "bfloat16" then return moon.autocast(fn) end
  return fn()
end

--- A function that makes one pass over the batch x with the labels y.
-- @string pass "forward" or "train"
-- @string dtype "float32", or "bfloat16" for mixed precision
function M.make(net, x, y, pass, dtype)
  if pass == "forward" then
    net:eval()
    return function() in_dtype(dtype, function() M.scores_of(net, x) end) end
  end
  net:train()
  local optimizer = moon.optim.SGD(net:parameters(), { lr = RATE, momentum = 0.9 })
  return function()
    optimizer:zero_grad()
    in_dtype(dtype, function() return moon.cross_entropy(net(x), y) end):backward()
    optimizer:step()
  end
end

return M
