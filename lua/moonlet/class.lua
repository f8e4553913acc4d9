-- Classes: single inheritance in one table a class.
--
-- A class is the metatable of its instances and its own __index; metamethods are copied down at
-- `extend`, because Lua looks them up raw. `init` is the constructor; calling the class makes an
-- instance. A call costs one table and one function call, the same on LuaJIT, 5.1 and 5.4.

local Class = { class_name = "Class" }
Class.__index = Class

local function construct(class, ...)
  local instance = setmetatable({}, class)
  class.init(instance, ...)
  return instance
end

local function class_text(class)
  return "class " .. class.class_name
end

setmetatable(Class, { __call = construct, __tostring = class_text })

--- Does nothing; classes replace it.
function Class:init() end -- luacheck: ignore 212

--- Makes a class below this one. Metamethods that exist by now are copied.
-- @string name what instances are called in messages
-- @usage local Counter = require "moonlet.class":extend "Counter"
-- function Counter:init(start) self.count = start or 0 end
-- function Counter:next() self.count = self.count + 1 return self.count end
-- assert(Counter(4):next() == 5)
function Class:extend(name)
  if type(self) ~= "table" or not rawget(self, "class_name") then
    error('extend: call it with a colon, Class:extend "Name"', 2)
  end
  local class = {}
  for key, value in pairs(self) do
    if type(key) == "string" and key:sub(1, 2) == "__" then class[key] = value end
  end
  class.__index = class
  class.class_name = name or self.class_name
  class.super = self
  return setmetatable(class, { __index = self, __call = construct, __tostring = class_text })
end

--- Is this an instance of `class` or of a class below it?
-- @usage local Class = require "moonlet.class"
-- local A = Class:extend "A"
-- assert(A():is(Class))
function Class:is(class)
  local mine = getmetatable(self)
  while mine do
    if mine == class then return true end
    mine = rawget(mine, "super")
  end
  return false
end

function Class:__tostring()
  return self.class_name
end

--- As `value:is(class)` for any value at all: false for what is no instance.
-- @usage assert(not require "moonlet.class".is_instance(3, require "moonlet.class"))
function Class.is_instance(value, class)
  if type(value) ~= "table" then return false end
  local mine = getmetatable(value)
  return type(mine) == "table" and rawget(mine, "class_name") ~= nil and Class.is(value, class)
end

--- Is `value` a class made by `extend`?
function Class.is_class(value)
  return type(value) == "table" and rawget(value, "class_name") ~= nil
    and rawget(value, "__index") == value
end

--- Fails with a sentence when a method was called with `.` in place of `:`.
-- @param self what the method got as self
-- @param class what it should be an instance of
-- @string method the method's name
-- @string[opt="object"] example the variable to show in the sentence
function Class.check_self(self, class, method, example)
  if Class.is_instance(self, class) then return end
  error(("%s: call it with a colon, %s:%s()"):format(method, example or "object", method), 3)
end

return Class
