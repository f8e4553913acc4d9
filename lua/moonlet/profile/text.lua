-- The tables that a profile prints: columns of numbers under their units, widest name first.

local M = {}

local function milliseconds(seconds) return ("%.3f"):format(seconds * 1e3) end
local function mebibytes(bytes) return ("%.2f"):format(bytes / 2 ^ 20) end

local function rate(row)
  if row.moved == 0 or row.self <= 0 then return "" end
  return ("%.1f"):format(row.moved / row.self / 1e9)
end

local function share(seconds, whole)
  return whole > 0 and ("%.1f"):format(100 * seconds / whole) or ""
end

-- Each: heading, its text in a row; those of `left` columns stand at the left.
local operator_columns = {
  left = 3,
  { "operator", function(row) return row.name end },
  { "pass", function(row) return row.pass end },
  { "algorithm", function(row) return row.algorithm or "" end },
  { "calls", function(row) return tostring(row.calls) end },
  { "self ms", function(row) return milliseconds(row.self) end },
  { "self %", function(row, whole) return share(row.self, whole) end },
  { "time ms", function(row) return milliseconds(row.time) end },
  { "moved MiB", function(row) return mebibytes(row.moved) end },
  { "GB/s", rate },
  { "memory MiB", function(row) return mebibytes(row.memory) end },
}

local module_columns = {
  left = 1,
  { "module", function(row)
    return row.name == "" and row.layer or ("%s (%s)"):format(row.layer, row.name)
  end },
  { "calls", function(row) return tostring(row.calls) end },
  { "forward ms", function(row) return milliseconds(row.time) end },
  { "self ms", function(row) return milliseconds(row.self) end },
  { "backward ms", function(row) return milliseconds(row.backward) end },
  { "self ms", function(row) return milliseconds(row.backward_self) end },
  { "kept MiB", function(row) return mebibytes(row.kept) end },
}

local function cells_of(columns, rows, whole)
  local lines = { {} }
  for i, column in ipairs(columns) do lines[1][i] = column[1] end
  for _, row in ipairs(rows) do
    local line = {}
    for i, column in ipairs(columns) do line[i] = column[2](row, whole) end
    lines[#lines + 1] = line
  end
  return lines
end

local function draw(columns, rows, whole)
  local lines, format = cells_of(columns, rows, whole), {}
  for i in ipairs(columns) do
    local width = 0
    for _, line in ipairs(lines) do width = math.max(width, #line[i]) end
    format[i] = ("%%%s%ds"):format(i <= columns.left and "-" or "", width)
  end
  for n, line in ipairs(lines) do
    for i, cell in ipairs(line) do line[i] = format[i]:format(cell) end
    lines[n] = (table.concat(line, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

-- The most expensive rows first, at most `limit`; equal ones stay in the order they came.
local function chosen(rows, key, limit)
  local list = {}
  for i, row in ipairs(rows) do list[i] = { row = row, at = i, value = key(row) } end
  table.sort(list, function(a, b)
    if a.value ~= b.value then return a.value > b.value end
    return a.at < b.at
  end)
  local first = {}
  for i = 1, math.min(limit, #list) do first[i] = list[i].row end
  return first, #list - #first
end

local keys = {
  operators = {
    self = function(row) return row.self end, time = function(row) return row.time end,
    calls = function(row) return row.calls end, moved = function(row) return row.moved end,
  },
  modules = {
    self = function(row) return row.self + row.backward_self end,
    time = function(row) return row.time + row.backward end,
    calls = function(row) return row.calls end, moved = function(row) return row.kept end,
  },
}

local columns_of = { operators = operator_columns, modules = module_columns }

--- The text of one table: `by` is "operators" or "modules".
function M.draw(profile, by, sort, limit)
  local rows, left_out = chosen(profile[by], keys[by][sort], limit)
  local text = draw(columns_of[by], rows, profile.seconds)
  if left_out == 0 then return text end
  return ("%s\n(%d more; give {limit = ...})"):format(text, left_out)
end

return M
