-- Csv: a table of results that grows by a row at a time and is whole on disk after each.
-- Opening an existing file with the same columns goes on with it; `keep` drops rows that a resumed
-- run will write again.

local options = require "moonlet.options"
local Class = require "moonlet.class"

local Csv = Class:extend "Csv"

local function quoted(value)
  if value == nil then return "" end
  if type(value) == "number" then return (("%.7g"):format(value):gsub(",", ".")) end
  local text = tostring(value)
  if text:find('[",\r\n]') then return '"' .. text:gsub('"', '""') .. '"' end
  return text
end

-- One line of a file that this module wrote; quoted fields stay within the line.
local function split(line)
  local fields, position = {}, 1
  while position <= #line + 1 do
    if line:sub(position, position) == '"' then
      local from = position + 1
      local stop = line:find('"', from, true)
      while stop and line:sub(stop, stop + 1) == '""' do stop = line:find('"', stop + 2) end
      stop = stop or #line + 1
      fields[#fields + 1] = line:sub(from, stop - 1):gsub('""', '"')
      position = stop + 2
    else
      local comma = line:find(",", position, true) or #line + 1
      fields[#fields + 1] = line:sub(position, comma - 1)
      position = comma + 1
    end
  end
  return fields
end

local function open(path, mode)
  local file, problem = io.open(path, mode)
  if not file then error("Csv: cannot write " .. tostring(problem), 0) end
  return file
end

--- Reads a file: a list of rows by column name, and the list of columns. Numbers become numbers.
-- @string path
function Csv.read(path)
  local file, problem = io.open(path, "r")
  if not file then return nil, problem end
  local columns, rows
  for line in file:lines() do
    local fields = split((line:gsub("\r$", "")))
    if not columns then
      columns, rows = fields, {}
    else
      local row = {}
      for i, name in ipairs(columns) do row[name] = tonumber(fields[i]) or fields[i] end
      rows[#rows + 1] = row
    end
  end
  file:close()
  return rows or {}, columns or {}
end

local function same(a, b)
  return table.concat(a, "\0") == table.concat(b, "\0")
end

--- Opens a table for writing.
-- @string path
-- @tparam table columns names in order
-- @tparam ?function keep keep(row) says which rows of an existing file stay; all are dropped
-- without it
-- @usage local path = os.tmpname()
-- local csv = require "moonlet".train.Csv(path, { "epoch", "loss" })
-- csv:add { epoch = 1, loss = 0.5 }
-- assert(csv.read(path)[1].loss == 0.5)
-- os.remove(path)
function Csv:init(path, columns, keep)
  self.path = options.argument("Csv", "path", path, "string")
  self.columns = options.argument("Csv", "columns", columns, "table")
  local rows, found = {}, nil
  if keep then rows, found = Csv.read(path) end
  if not rows or not found or not same(found, columns) then rows = {} end
  local file = open(path, "w")
  file:write(table.concat(columns, ","), "\n")
  file:close()
  for _, row in ipairs(rows) do
    if keep(row) then self:add(row) end
  end
end

--- Appends a row; names that are no column are an error.
-- @tparam table row value by column
function Csv:add(row)
  Class.check_self(self, Csv, "add", "csv")
  local schema = {}
  for _, name in ipairs(self.columns) do schema[name] = { "any" } end
  options.read("Csv.add", row, schema, 3)
  local fields = {}
  for i, name in ipairs(self.columns) do fields[i] = quoted(row[name]) end
  local file = open(self.path, "a")
  file:write(table.concat(fields, ","), "\n")
  file:close()
end

return Csv
