-- Every layer that nn has, made and used once: its forward runs, its output has the expected shape,
-- gradients reach its input and its parameters, it prints, its state goes through a file, and it
-- follows to("float64"). A new layer is tested by a row here; without one this spec fails.
local moon = require "moonlet"
local layers = require "spec.support.layers"
local sources = require "spec.support.sources"

local nn, rows, inputs_of = moon.nn, layers.rows, layers.inputs_of
local unpack = table.unpack or unpack

-- Not layers: what others extend, and lists that have no forward.
local bases = { Module = true, ModuleList = true, ModuleDict = true, Convolution = true,
                LocallyConnected = true }

-- name -> class of everything in lua/moonlet/nn.
local function classes()
  local found = {}
  for _, path in ipairs(sources.files("lua/moonlet/nn", ".lua")) do
    local name = path:match "^lua/moonlet/nn/([%w_]+)%.lua$"
    local layer = name and name ~= "functional" and name ~= "init"
    local value = layer and require("moonlet.nn." .. name)
    if type(value) == "table" then
      for key, class in pairs(rawget(value, "class_name") and { value } or value) do
        if type(class) == "table" and rawget(class, "class_name") then
          found[type(key) == "string" and key or class.class_name] = class
        end
      end
    end
  end
  return found
end

local function first_of(...) return (...) end

local function float_inputs(list)
  local floats = {}
  for _, x in ipairs(list) do
    if x.requires_grad and x.is_leaf then floats[#floats + 1] = x end
  end
  return floats
end

local function check_state(layer, make, class)
  local path = os.tmpname()
  layer:save(path)
  local other = make(class)
  if #other:parameters() > 0 and moon.is_lazy(other:parameters()[1]) then
    os.remove(path)
    return
  end
  other:load(path)
  os.remove(path)
  local theirs = other:state_dict()
  for name, tensor in pairs(layer:state_dict()) do
    assert.is_true(tensor:eq(theirs[name]):all():item() ~= 0, name)
  end
end

describe("every layer of nn", function()
  local all = classes()

  it("has a row in this spec, and every row a layer", function()
    for name in pairs(all) do assert.is_truthy(rows[name] or bases[name], name) end
    for name in pairs(rows) do assert.is_table(all[name], name) end
  end)

  for name, each in pairs(rows) do
    describe(name, function()
      local make, inputs, shape = each[1], each[2], each[3]

      it("gives its shape, and gradients to what it was given", function()
        local layer, list = make(nn[name]), inputs_of(inputs)
        local y = first_of(layer(unpack(list)))
        assert.same(shape, y:size())
        y:square():sum():backward()
        for _, x in ipairs(float_inputs(list)) do
          assert.is_truthy(x.grad, "an input without gradient")
          assert.same(x:size(), x.grad:size())
        end
        for key, parameter in layer:named_parameters() do assert.is_truthy(parameter.grad, key) end
      end)

      it("is checked on shapes alone, or says that it reads elements", function()
        local shapes = {}
        for i, x in ipairs(inputs_of(inputs)) do
          shapes[i] = x:size()
          shapes[i].dtype = x.dtype
        end
        local report = make(nn[name]):check(unpack(shapes))
        if report.ok then
          assert.same(shape, report.output)
        else
          assert.is_truthy(report.problems[1].message:find("no elements", 1, true),
            report.problems[1].text)
        end
      end)

      it("says in words what it wants instead of what is no tensor", function()
        local integers = moon.zeros(0, { dtype = "int64" })
        for _, given in ipairs { 5, "x", true, {}, moon.tensor(1), integers, false } do
          local ok, message = pcall(make(nn[name]), given or nil)
          message = tostring(message)
          local internal = message:find "attempt to" or message:find "bad argument"
          assert.is_truthy(ok or not internal, message)
        end
      end)

      it("prints, is saved and loaded, and takes double precision", function()
        local layer = make(nn[name])
        layer(unpack(inputs_of(inputs)))
        assert.is_truthy(tostring(layer):find(layer.class_name, 1, true))
        check_state(layer, make, nn[name])
        layer:to("float64")
        local wide = inputs_of(inputs)
        for i, x in ipairs(wide) do
          if x.dtype == "float32" then wide[i] = x:to("float64") end
        end
        assert.equal("float64", first_of(layer(unpack(wide))).dtype)
      end)
    end)
  end
end)
