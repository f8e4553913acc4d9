-- Classes: construction, inheritance, and the mistakes that are easily made with them.
local Class = require "moonlet" and require "moonlet.class"

describe("class", function()
  it("makes instances by calling the class, with init as constructor", function()
    local Point = Class:extend "Point"
    function Point:init(x) self.x = x end
    assert.equal(3, Point(3).x)
  end)

  it("inherits methods and copies metamethods", function()
    local A = Class:extend "A"
    function A:name() return "a" .. self:tail() end
    function A:tail() return "1" end
    function A:__call(x) return x + 1 end
    local B = A:extend "B"
    function B:tail() return "2" end
    assert.equal("a2", B():name())
    assert.equal(6, B()(5))
  end)

  it("knows its instances, and says no to anything else", function()
    local A = Class:extend "A"
    local B = A:extend "B"
    assert.is_true(B():is(A))
    assert.is_false(A():is(B))
    for _, value in ipairs { 1, "text", {}, print, A } do
      assert.is_false(Class.is_instance(value, A))
    end
    assert.is_true(Class.is_instance(B(), A))
  end)

  it("prints the class's name", function()
    assert.equal("Thing", tostring(Class:extend "Thing"()))
    assert.equal("class Thing", tostring(Class:extend "Thing"))
  end)

  it("recognises a method called with a dot", function()
    local A = Class:extend "A"
    function A:go() Class.check_self(self, A, "go", "a") return "gone" end
    assert.equal("gone", A():go())
    local _, message = pcall(A.go)
    assert.matches("go: call it with a colon, a:go%(%)", message)
  end)

  it("says so when extend is called with a dot", function()
    local _, message = pcall(Class.extend, "Net")
    assert.matches("call it with a colon", message)
  end)
end)
