-- Lookahead: a wrapped optimiser runs ahead with fast weights; every k steps the slow weights move
-- a part of the way after them, slow = slow + alpha (fast - slow), and the fast ones start there
-- again. One copy of the parameters.

local capture = require "moonlet.capture"
local core = require "moonlet.core"
local options = require "moonlet.options"
local Class = require "moonlet.class"
local Wrapper = require "moonlet.optim.wrapper"

local Lookahead = Wrapper:extend "Lookahead"

--- Lookahead (Zhang, Lucas, Hinton and Ba 2019).
-- @tparam Optimizer base the optimiser that runs ahead
-- @tparam ?table given k = 5 (steps between two moves of the slow weights), alpha = 0.5
-- @usage local moon = require "moonlet"
-- local net = moon.nn.Linear(2, 1)
-- local opt = moon.optim.Lookahead(moon.optim.SGD(net:parameters(), { lr = 0.1 }), { k = 2 })
-- for _ = 1, 4 do
--   opt:zero_grad()
--   net(moon.ones(4, 2)):mean():backward()
--   opt:step()
-- end
function Lookahead:init(base, given)
  self:wrap(base)
  local o = options.read("Lookahead", given, { k = { "positive", 5 }, alpha = { "share", 0.5 } })
  self.wants_closure = base.wants_closure
  self.k, self.alpha, self.count, self.slow = o.k, o.alpha, 0, {}
end

-- Slow weights start where the parameters first are.
local function start(self)
  for i, entry in ipairs(self.entries) do
    if not self.slow[i] and not core.is_lazy(entry.parameter) then
      self.slow[i] = core.keep(entry.parameter:detach():clone())
    end
  end
end

local function follow(self)
  for i, entry in ipairs(self.entries) do
    local slow, fast = self.slow[i], entry.parameter
    if slow then
      slow:add_((fast - slow):mul_(self.alpha))
      fast:copy_(slow)
    end
  end
end

local function count_step(self)
  self.count = self.count + 1
  if self.count % self.k == 0 then core.scope(core.no_grad, follow, self) end
end

--- One step of the fast weights, and every k-th one of the slow weights.
-- @tparam ?function closure as for the wrapped optimiser
function Lookahead:step(closure)
  Class.check_self(self, Lookahead, "step", "optimizer")
  capture.refuse "Lookahead"
  core.no_grad(start, self)
  local loss = self.base:step(closure)
  core.uninterrupted(count_step, self)
  return loss
end

function Lookahead:own_state()
  local dict = { count = self.count }
  for i, slow in pairs(self.slow) do dict["slow." .. i] = slow end
  return dict
end

function Lookahead:load_own_state(dict)
  self.count, self.slow = dict.count, {}
  for i, entry in ipairs(self.entries) do
    local slow = dict["slow." .. i]
    self.slow[i] = slow and core.keep(slow:to(entry.parameter):clone())
  end
end

return Lookahead
