-- Namespaces that load a member when it is first asked for.
local moon = require "moonlet"

describe("the namespaces", function()
  it("find a member by its name, once", function()
    assert.equal("Conv2d", moon.nn.Conv2d.class_name)
    assert.equal(moon.nn.Conv2d, rawget(moon.nn, "Conv2d"))
  end)

  it("correct the spelling of a class", function()
    local _, message = pcall(function() return moon.nn.Conv2D end)
    assert.matches('moonlet.nn has no "Conv2D"; did you mean "Conv2d"', message)
  end)

  it("say where they looked for what there is not", function()
    local _, message = pcall(function() return moon.optim.Nothing end)
    assert.matches("moonlet/optim/nothing.lua", message)
  end)

  it("give nil for keys that are no names, so that tools may look", function()
    assert.is_nil(moon.nn[1])
    assert.is_nil(moon.nn.__name)
  end)

  it("forward functional to the operators", function()
    assert.equal(moon.conv2d, moon.nn.functional.conv2d)
    assert.has_error(function() return moon.nn.functional.no_such_thing end)
  end)
end)
