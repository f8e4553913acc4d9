-- Transform: a callable object that changes a picture (c, h, w) or a batch (n, c, h, w) of floats
-- on whatever device it lies, where the result lies too. What is random is drawn for each picture
-- of a batch, with the same numbers on every device. It remembers the module and arguments that
-- made it, so that worker threads can build it.
-- A subclass calls remember in its init and writes apply(x), x always a batch. One that stores no
-- tensor while it works says `keeps_nothing = true`: its temporaries are then freed at once.

local Class = require "moonlet.class"

local Transform = Class:extend "Transform"

Transform.takes_batches = true

--- Records where the object comes from.
-- @string module the file's own name, `...` at its top
-- @param ... the arguments given
function Transform:remember(module, ...)
  self.named_origin = { module = module, arguments = { ... }, count = select("#", ...) }
end

function Transform:origin() return self.named_origin end

function Transform:__call(x)
  local dims = x:dim()
  if dims == 4 then return self:apply(x) end
  if dims ~= 3 then
    error(("%s: wants a picture (c, h, w) or a batch (n, c, h, w), not %s"):format(
      self.class_name, table.concat(x:size(), "x")), 2)
  end
  return self:apply(x:unsqueeze(1)):squeeze(1)
end

return Transform
