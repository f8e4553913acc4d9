-- Snapshot: what a training step changes before its update, kept so that a step cut off by Ctrl-C
-- can be taken back: the random stream and the net's buffers (running statistics). Parameters
-- change only in the optimiser's step, which no interrupt can cut.

local core = require "moonlet.core"
local Class = require "moonlet.class"

local Snapshot = Class:extend "Snapshot"

--- Prepares to keep the buffers of `net`.
function Snapshot:init(net)
  self.pairs, self.valid = {}, false
  for _, buffer in net:named_buffers() do
    self.pairs[#self.pairs + 1] = { buffer, core.keep(buffer:clone()) }
  end
end

local function copy(list, from, to)
  for _, pair in ipairs(list) do pair[to]:copy_(pair[from]) end
end

--- Keeps the present state.
function Snapshot:take()
  self.valid = false
  self.stream = core.get_rng_state()
  core.no_grad(copy, self.pairs, 1, 2)
  self.valid = true
end

--- Goes back to it. Taken half, it has nothing to undo: nothing had changed yet.
function Snapshot:restore()
  if not self.valid then return end
  core.set_rng_state(self.stream)
  core.no_grad(copy, self.pairs, 2, 1)
end

return Snapshot
