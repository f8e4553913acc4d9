-- viz.confusion: a confusion matrix as a PNG: each cell's shade is the part of its row, its number
-- the count. gnuplot draws it with class names; without gnuplot there is a plain heat map.

local core = require "moonlet.core"
local gnuplot = require "moonlet.viz.gnuplot"

local CELL_PIXELS = 32

local function row_parts(matrix)
  local parts = {}
  for i = 1, matrix.classes do
    local sum = 0
    for j = 1, matrix.classes do sum = sum + matrix.counts[i][j] end
    parts[i] = {}
    for j = 1, matrix.classes do parts[i][j] = matrix.counts[i][j] / math.max(sum, 1) end
  end
  return parts
end

local function tics(axis, names, classes)
  local list = {}
  for i = 1, classes do
    list[i] = ("%s %d"):format(gnuplot.quote(names and names[i] or i), i)
  end
  return ("set %stics (%s)"):format(axis, table.concat(list, ", "))
end

local function data_block(matrix, parts)
  local lines = { "$cells << EOD" }
  for i = 1, matrix.classes do
    for j = 1, matrix.classes do
      lines[#lines + 1] = ("%d %d %.5f %d"):format(j, i, parts[i][j], matrix.counts[i][j])
    end
  end
  lines[#lines + 1] = "EOD"
  return table.concat(lines, "\n")
end

local function with_gnuplot(matrix, path, names)
  local n = matrix.classes
  local script = table.concat({
    data_block(matrix, row_parts(matrix)),
    ("set title 'confusion: %.2f %% right'"):format(100 * matrix:accuracy()),
    "set palette defined (0 '#ffffff', 0.25 '#9ecae1', 1 '#08519c')",
    "set cbrange [0:1]", "unset colorbox", "set xlabel 'predicted'", "set ylabel 'actual'",
    ("set xrange [0.5:%g]"):format(n + 0.5), ("set yrange [%g:0.5]"):format(n + 0.5),
    tics("x", names, n) .. " rotate by -45", tics("y", names, n), "set size square",
    "plot $cells using 1:2:3 with image notitle, \\",
    "  $cells using 1:2:(sprintf('%d', $4)):($3 > 0.5 ? 0xffffff : 0x404040) \\",
    "  with labels font ',8' tc rgb variable notitle",
  }, "\n")
  return gnuplot.run(path, script, { 760, 720 })
end

local function draw_heat_map(matrix)
  local n = matrix.classes
  local shades = core.tensor(row_parts(matrix)):neg():add(1)
  return shades:reshape(1, n, 1, n, 1):expand(1, n, CELL_PIXELS, n, CELL_PIXELS)
    :reshape(1, n * CELL_PIXELS, n * CELL_PIXELS)
end

--- Draws a confusion matrix.
-- @tparam ConfusionMatrix matrix
-- @string path the PNG to write
-- @tparam ?table names class names; the matrix's own unless given
-- @return true; nil and a sentence when it drew a plain heat map without names
-- @usage local moon = require "moonlet"
-- local matrix = moon.metrics.ConfusionMatrix(2)
-- matrix:add({ 1, 2 }, { 1, 2 })
-- local path = os.tmpname()
-- moon.viz.confusion(matrix, path)
-- os.remove(path)
return function(matrix, path, names)
  local ok, why = with_gnuplot(matrix, path, names or matrix.names)
  if ok then return true end
  core.image_save(path, core.no_grad(draw_heat_map, matrix))
  return nil, why .. "; " .. path .. " is a plain heat map without class names"
end
