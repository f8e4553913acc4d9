-- data.named: an object built by a module of yours from plain arguments, so that worker threads can
-- build the same one. The module's value is called with the arguments: a class or a function.

--- Makes a dataset or transform that can be sent to workers.
-- @string module name to require
-- @param ... plain arguments
-- @usage local pad = require "moonlet".data.named("moonlet.data.transforms.pad", 2)
-- assert(pad:origin().module == "moonlet.data.transforms.pad")
return function(module, ...)
  if type(module) ~= "string" then
    error("data.named: the first argument is a module's name, not a " .. type(module), 2)
  end
  local object = require(module)(...)
  if type(object) ~= "table" then
    error(("data.named: %s made a %s; a dataset or transform is a table"):format(
      module, type(object)), 2)
  end
  local origin = { module = module, arguments = { ... }, count = select("#", ...) }
  rawset(object, "named_origin", origin)
  if type(object.origin) ~= "function" then
    rawset(object, "origin", function() return origin end)
  end
  return object
end
