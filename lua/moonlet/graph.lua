-- Pictures of the tape, as DOT text for Graphviz: operators as boxes with the shapes of their
-- results, leaves as ovals, arrows the way the calculation went. The text is the same for the same
-- calculation. Large tapes are cut, with a note.

local core = require "moonlet.core"
local options = require "moonlet.options"

local schema = { parameters = { "any" }, limit = { "positive", 1000 } }

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "" }

local function quoted(lines)
  for i, line in ipairs(lines) do lines[i] = line:gsub('["\\\n\r]', escapes) end
  return '"' .. table.concat(lines, "\\n") .. '"'
end

local function bad_parameters(what)
  error("graph: parameters must be a module or a table of tensors by name, got " .. what, 4)
end

-- address of a leaf -> its name
local function leaf_names(parameters)
  local names = {}
  if parameters == nil then return names end
  if type(parameters) ~= "table" then bad_parameters(options.show(parameters)) end
  local list = {}
  if parameters.is_moonlet_module then
    for name, tensor in parameters:named_parameters() do list[#list + 1] = { name, tensor } end
  else
    for name, tensor in pairs(parameters) do
      if not core.is_tensor(tensor) then
        bad_parameters(("%s under %s"):format(options.show(tensor), options.show(name)))
      end
      list[#list + 1] = { tostring(name), tensor }
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
  end
  for _, entry in ipairs(list) do
    local address = not core.is_lazy(entry[2]) and core.tape_address(entry[2])
    if address and not names[address] then names[address] = entry[1] end
  end
  return names
end

-- The shapes of the results that were used, in order: "2x3" or "2x3, 2x3".
local function shapes_text(shapes)
  local known, places = {}, {}
  for place in pairs(shapes) do places[#places + 1] = place end
  table.sort(places)
  for i, place in ipairs(places) do known[i] = shapes[place] end
  return table.concat(known, ", ")
end

local function describe(number, entry, names)
  if entry.name then
    return ("  n%d [shape=box, label=%s];"):format(
      number, quoted { entry.name, shapes_text(entry.shapes) })
  end
  return ("  n%d [shape=ellipse, style=filled, label=%s];"):format(
    number, quoted { names[entry.address] or "leaf", entry.shapes[1] .. " " .. entry.dtype })
end

--- The tape behind a tensor as DOT text.
-- @tparam tensor loss where the picture begins
-- @tparam ?table given parameters = a module, or tensors by name, to write names on leaves;
-- limit = 1000: operators and leaves drawn at most, those nearest to the loss
-- @return DOT text; `dot -Tsvg` makes a picture of it
-- @usage local net = moon.nn.Linear(3, 1)
-- local text = moon.graph(net(moon.ones(2, 3)):sum(), { parameters = net })
-- assert(text:find("digraph", 1, true) and text:find("weight", 1, true))
-- @function moon.graph(loss, given)
return function(loss, given)
  local o = options.read("graph", given, schema, 3)
  local names = leaf_names(o.parameters)
  local entries, cut = core.tape_list(loss, o.limit)
  local lines, left_out = { "digraph tape {", "  rankdir=BT;" }, false
  for i, entry in ipairs(entries) do lines[#lines + 1] = describe(i, entry, names) end
  for i, entry in ipairs(entries) do
    for _, from in ipairs(entry.from or {}) do
      if from > 0 then
        lines[#lines + 1] = ("  n%d -> n%d;"):format(from, i)
      else
        lines[#lines + 1] = ("  more -> n%d [style=dashed];"):format(i)
        left_out = true
      end
    end
  end
  if cut or left_out then
    lines[#lines + 1] = ("  more [shape=note, label=%s];"):format(
      quoted { ("cut at %d; give {limit = ...} for more"):format(o.limit) })
  end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n") .. "\n"
end
