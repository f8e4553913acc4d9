-- What net:check found, as an object that prints itself: one row a layer with its output, its
-- parameters, activations, multiply-adds, receptive field and stride; the sums; the mismatches.

local Class = require "moonlet.class"
local thousands = require "moonlet.nn.thousands"

local Report = Class:extend "Report"

--- Fields: rows (name, layer, output, parameters, activations, multiply_adds, field, stride,
-- weights (of a window), dense (weights of a fully connected layer instead), problem); parameters,
-- activations, multiply_adds (sums); output (sizes of the first result, nil if unknown), field,
-- stride, weights; problems (name, layer, message, text) and ok.
function Report:init()
  self.rows, self.problems = {}, {}
  self.parameters, self.activations, self.multiply_adds, self.weights = 0, 0, 0, 0
  self.ok = true
end

local function sizes_text(size)
  return #size == 0 and "0-d" or table.concat(size, " x ")
end

-- 7 x 7 as "7x7"; fractions of transposed convolutions with two digits
local function span_text(list)
  local parts = {}
  for i, n in ipairs(list) do
    parts[i] = n == math.floor(n) and ("%d"):format(n) or ("%.2g"):format(n)
  end
  return table.concat(parts, "x")
end

local function title(row)
  return row.name == "" and row.layer or ("%s (%s)"):format(row.layer, row.name)
end

function Report:add_problem(name, layer, message)
  local problem = { name = name, layer = layer, message = message }
  problem.text = ("%s: %s"):format(title(problem), message)
  self.problems[#self.problems + 1] = problem
  self.ok = false
  return problem
end

function Report:add_row(row)
  self.rows[#self.rows + 1] = row
  self.parameters = self.parameters + row.parameters
  self.activations = self.activations + row.activations
  self.multiply_adds = self.multiply_adds + row.multiply_adds
  if row.weights then self.weights = self.weights + row.weights end
end

local headings = {
  "layer", "output", "parameters", "activations", "multiply-adds", "sees", "stride",
  "dense equivalent",
}

local function cells(row)
  local sees, stride = "", ""
  if row.sees_all then sees = "all"
  elseif row.field then sees, stride = span_text(row.field), span_text(row.stride) end
  return {
    (row.problem and "! " or "") .. title(row), sizes_text(row.output),
    thousands(row.parameters), thousands(row.activations), thousands(row.multiply_adds), sees,
    stride, row.dense and thousands(row.dense) or "",
  }
end

local function lay_out(lines)
  local width = {}
  for _, line in ipairs(lines) do
    for i, text in ipairs(line) do width[i] = math.max(width[i] or 0, #text) end
  end
  for number, line in ipairs(lines) do
    local parts = {}
    for i, text in ipairs(line) do
      parts[i] = i == 1 and text .. (" "):rep(width[i] - #text)
        or (" "):rep(width[i] - #text) .. text
    end
    lines[number] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  return lines
end

-- "sees 7x7 with 27 weights for each pair of channels, where one layer of that field has 49"
local function field_text(report)
  local convolutions = 0
  for _, row in ipairs(report.rows) do
    if row.weights then convolutions = convolutions + 1
    elseif row.pools then return nil end
  end
  if not report.field or convolutions < 2 then return nil end
  local area = 1
  for _, n in ipairs(report.field) do area = area * n end
  return ("convolutions see %s with %s weights for each pair of channels; one would have %s")
    :format(span_text(report.field), thousands(report.weights), thousands(area))
end

local function problem_lines(report, lines)
  if report.ok then return end
  lines[#lines + 1] = #report.problems == 1 and "1 problem:"
    or ("%d problems:"):format(#report.problems)
  for _, problem in ipairs(report.problems) do lines[#lines + 1] = "  " .. problem.text end
end

function Report:__tostring()
  local lines = { headings }
  for _, row in ipairs(self.rows) do lines[#lines + 1] = cells(row) end
  lay_out(lines)
  table.insert(lines, 2, ("-"):rep(#lines[1]))
  lines[#lines + 1] = ("-"):rep(#lines[1])
  lines[#lines + 1] = ("%s parameters, %s activations, %s multiply-adds"):format(
    thousands(self.parameters), thousands(self.activations), thousands(self.multiply_adds))
  lines[#lines + 1] = field_text(self)
  problem_lines(self, lines)
  return table.concat(lines, "\n")
end

return Report
