-- Muon: momentum whose matrix is made orthogonal before it moves the weights.
-- b = momentum b + (1 - momentum) g;  u = (1 - momentum) g + momentum b with nesterov, else b;
-- p = (1 - lr weight_decay) p - lr s O(u), s = sqrt(max(1, rows / columns)).
-- O(u), near to U V' where u = U S V', comes from five Newton-Schulz steps on X = u / |u|:
-- X = a X + (b A + c A^2) X with A = X X'. For weights of two dimensions only; biases, embeddings
-- and the last layer go to AdamW. The steps run in the parameter's own type (float32 for halves).

local core = require "moonlet.core"
local Optimizer = require "moonlet.optim.optimizer"

local Muon = Optimizer:extend "Muon"

Muon.schema = Optimizer.options {
  lr = { "from_zero", 1e-3 }, weight_decay = { "from_zero", 0.1 }, momentum = { "share", 0.95 },
  nesterov = { "boolean", true }, eps = { "above_zero", 1e-7 }, ns_steps = { "positive", 5 },
  adjust_lr_fn = { { "original", "match_rms_adamw", "spectral_unclamped" }, "original" },
}
Muon.slots = { "momentum" }
Muon.temporaries = true

local A, B, C = 3.4445, -4.7750, 2.0315   -- steepest at 0, so that five steps do

--- Muon (Jordan et al. 2024). adjust_lr_fn = "match_rms_adamw" takes s = 0.2 sqrt(max(rows,
-- columns)), for rates tuned with AdamW (Liu et al. 2025); "spectral_unclamped" s = sqrt(rows /
-- columns).
-- @function Muon:init
-- @tparam table params a list of two-dimensional parameters, or of groups
-- @tparam ?table given lr = 1e-3, weight_decay = 0.1, momentum = 0.95, nesterov = true,
-- eps = 1e-7, ns_steps = 5, adjust_lr_fn = "original", maximize = false
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(3, 2)
-- local opt = moon.optim.Muon({ net.weight }, { lr = 0.02 })
-- net(moon.ones(4, 3)):mean():backward()
-- opt:step()

function Muon.check_group(group)
  if group.ns_steps >= 100 then
    return ("ns_steps must lie below 100, not %d"):format(group.ns_steps)
  end
end

--- The orthogonal matrix near `matrix`, by Newton-Schulz steps.
-- @tparam tensor matrix
-- @int steps
-- @number eps the least norm to divide by
-- @usage local moon = require "moonlet"
-- local x = moon.optim.Muon.orthogonalize(moon.eye(3) * 5, 5, 1e-7)
-- assert(math.abs(x[{1, 1}] - 1) < 0.4 and math.abs(x[{1, 2}]) < 1e-6)
function Muon.orthogonalize(matrix, steps, eps)
  local wide = matrix.dtype == "float64" and matrix or matrix:to "float32"
  local turn = wide:size(1) > wide:size(2)
  local x = turn and wide:t() or wide
  x = x / math.max(x:norm():item(), eps)
  for _ = 1, steps do
    local gram = x:mm(x:t())
    x = x * A + (gram * B + gram:mm(gram) * C):mm(x)
  end
  return (turn and x:t() or x):to(matrix)
end

local scales = {
  original = function(rows, columns) return math.sqrt(math.max(1, rows / columns)) end,
  spectral_unclamped = function(rows, columns) return math.sqrt(rows / columns) end,
  match_rms_adamw = function(rows, columns) return 0.2 * math.sqrt(math.max(rows, columns)) end,
}

function Muon:init(params, given)
  Optimizer.init(self, params, given)
  for i, entry in ipairs(self.entries) do
    local p = entry.parameter
    if not core.is_lazy(p) and p:dim() ~= 2 then
      error(("Muon: parameter %d has %d dimensions; Muon moves matrices, give the others to "
        .. "another optimiser"):format(i, p:dim()), 3)
    end
  end
end

function Muon:update(parameter, gradient, group, state)
  if parameter:dim() ~= 2 then
    error(("Muon: a parameter has %d dimensions; Muon moves matrices"):format(parameter:dim()), 0)
  end
  local mu = group.momentum
  state.momentum:mul_(mu):add_(gradient * (1 - mu))
  local move = group.nesterov and gradient * (1 - mu) + state.momentum * mu or state.momentum
  move = Muon.orthogonalize(move, group.ns_steps, group.eps)
  local scale = scales[group.adjust_lr_fn](parameter:size(1), parameter:size(2))
  parameter:mul_(1 - group.lr * group.weight_decay):sub_(move:mul_(group.lr * scale))
end

return Muon
