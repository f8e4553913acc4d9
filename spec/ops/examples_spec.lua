-- The example of every operator, as help and the reference show it: each line runs, and where it
-- says "expression --> literal" the two agree.
local moon = require "moonlet"
local naive = require "spec.support.naive"

local load_text = rawget(_G, "loadstring") or load

local function evaluate(text, label)
  local chunk = load_text("local moon = ...; return " .. text, label)
  if chunk then return chunk(moon) end
  return assert(load_text("local moon = ...; " .. text, label))(moon)
end

-- Lines that end in an open bracket or begin as statements belong together: a line is tried alone,
-- then with those after it.
local function statements(text)
  local list, waiting = {}, nil
  for line in text:gmatch "[^\n]+" do
    local code = (waiting and waiting .. "\n" or "") .. line
    local expression = code:match "^(.-)%s*%-%->"
    local complete = expression or load_text("return " .. code) or load_text(code)
    if complete then list[#list + 1] = code end
    waiting = not complete and code or nil
  end
  assert(not waiting, waiting)
  return list
end

-- A nested table with 1 and 0 for true and false.
local function numbers(value)
  if type(value) == "boolean" then return value and 1 or 0 end
  if type(value) ~= "table" then return value end
  local list = {}
  for i, member in ipairs(value) do list[i] = numbers(member) end
  return list
end

local function check(actual, literal, label)
  local expected = evaluate(literal, label)
  if not moon.is_tensor(actual) then return assert.same(expected, actual) end
  naive.close(actual, moon.tensor(numbers(expected), { dtype = "float64" }), 1e-3)
end

describe("the example of", function()
  for _, op in ipairs(moon.operators()) do
    if op.example then
      it(op.name .. " runs", function()
        local whole = op.example
        if not whole:find("-->", 1, true) then return evaluate(whole, op.name) end
        local before = ""
        for _, statement in ipairs(statements(whole)) do
          local expression, literal = statement:match "^(.-)%s*%-%->%s*(.*)$"
          if expression then
            local results = { evaluate("(function() " .. before .. " return " .. expression ..
              " end)()", op.name) }
            check(results[1], literal, op.name)
          else
            before = before .. statement .. "\n"
          end
        end
      end)
    end
  end
end)
