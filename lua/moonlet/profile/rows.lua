-- From the events of a profile to its rows: one for each operator, pass and algorithm, one for each
-- module.
--
-- The time of an event is its own and that of the events inside of it; its self time is without
-- those. Self times of operators, walks and collections together with what is left, the time in
-- Lua, are the time of the whole.

local M = {}

local function duration(event) return event.stop > 0 and event.stop - event.start or 0 end

-- What an event ran in: the nearest event of that kind.
local function around(events, event, kind)
  local outer = events[event.outer]
  while outer and outer.kind ~= kind do outer = events[outer.outer] end
  return outer
end

local pass_by_kind = { backward = "backward", walk = "backward", collection = "" }

-- A call belongs to the pass that it runs in. What a checkpoint calculates again is a module's
-- call, and so a forward, though it runs in a backward.
local function pass_of(events, event)
  if pass_by_kind[event.kind] then return pass_by_kind[event.kind] end
  local outer = events[event.outer]
  while outer and outer.kind == "call" do outer = events[outer.outer] end
  return outer and pass_by_kind[outer.kind] or "forward"
end

local names = { walk = "(the tape)", collection = "(garbage)" }

--- Adds to each event `time`, `self` and `pass`.
function M.complete(events)
  for _, event in ipairs(events) do
    event.time = duration(event)
    event.self = event.time
    event.pass = pass_of(events, event)
  end
  for _, event in ipairs(events) do   -- modules are no part of what operators take
    local outer = event.kind ~= "module" and events[event.outer]
    while outer and outer.kind == "module" do outer = events[outer.outer] end
    if outer then
      outer.self = math.max(outer.self - event.time, 0)
      if event.kind ~= "collection" then outer.moved = 0 end   -- what is inside of it moves them
    end
  end
end

local function operator_row(event)
  return {
    name = names[event.kind] or event.name, pass = event.pass, algorithm = event.algorithm,
    calls = 0, time = 0, self = 0, moved = 0, memory = 0,
  }
end

--- One row for each operator, pass and algorithm, and one for what ran outside of all.
function M.operators(events, seconds)
  local rows, by_key, outside = {}, {}, seconds
  for _, event in ipairs(events) do
    if event.kind ~= "module" then
      local row = operator_row(event)
      local key = table.concat({ row.name, row.pass, row.algorithm or "" }, "\n")
      row = by_key[key] or row
      if not by_key[key] then rows[#rows + 1], by_key[key] = row, row end
      row.calls = row.calls + 1
      row.time, row.self = row.time + event.time, row.self + event.self
      row.moved, row.memory = row.moved + event.moved, math.max(row.memory, event.memory)
      outside = outside - event.self
    end
  end
  outside = math.max(outside, 0)
  rows[#rows + 1] = {
    name = "(Lua)", pass = "", calls = 1, time = outside, self = outside, moved = 0, memory = 0,
  }
  return rows
end

-- -- modules

-- Paths as named_modules gives them, from the outermost modules that were called down.
local function name_modules(rows, roots)
  local by_module = {}
  for _, row in pairs(rows) do by_module[row.module] = row end
  for _, root in ipairs(roots) do
    for name, module in root.module:named_modules() do
      local row = by_module[module]
      if row and not row.name then row.name = name end
    end
  end
end

-- The row of each number that was called, in the order of first calls, and those nothing called.
local function module_rows(events, modules)
  local rows, list, roots = {}, {}, {}
  for _, event in ipairs(events) do
    local module = modules[event.module]
    if event.kind == "module" and not rows[event.module] then
      local outer = around(events, event, "module")
      local row = {
        module = module, layer = module.class_name, outer = outer and rows[outer.module],
        calls = 0, time = 0, self = 0, backward = 0, backward_self = 0, kept = 0,
      }
      rows[event.module], list[#list + 1] = row, row
      if not row.outer then roots[#roots + 1] = row end
    end
  end
  name_modules(rows, roots)
  return rows, list
end

local function add_call(events, rows, event)
  local row, outer = rows[event.module], around(events, event, "module")
  row.calls, row.kept = row.calls + 1, row.kept + event.memory
  row.self = row.self + event.time
  if outer then rows[outer.module].self = rows[outer.module].self - event.time end
  while outer and outer.module ~= event.module do outer = around(events, outer, "module") end
  if not outer then row.time = row.time + event.time end   -- of a call in itself, once
end

local function add_backward(events, rows, event)
  local row = rows[event.module]
  if not row or around(events, event, "backward") then return end
  row.backward_self = row.backward_self + event.time
  while row do   -- what it ran in was called first
    row.backward = row.backward + event.time
    row = row.outer
  end
end

--- One row for each module that was called; a backward belongs to the module whose call it is of.
function M.modules(events, modules)
  local rows, list = module_rows(events, modules)
  for _, event in ipairs(events) do
    if event.kind == "module" then add_call(events, rows, event) end
    if event.kind == "backward" then add_backward(events, rows, event) end
  end
  for _, row in ipairs(list) do
    row.self, row.name = math.max(row.self, 0), row.name or ""
  end
  for _, event in ipairs(events) do
    local row = rows[event.module]
    event.path = row and row.name
    event.layer = row and row.layer
  end
  for _, row in ipairs(list) do row.module, row.outer = nil, nil end
  return list
end

return M
