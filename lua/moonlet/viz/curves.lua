-- viz.curves: loss and accuracy by epoch, from the trainer's metrics.csv, as a PNG (gnuplot).

local Csv = require "moonlet.train.csv"
local gnuplot = require "moonlet.viz.gnuplot"

local function block(name, rows, column, factor)
  local lines = { "$" .. name .. " << EOD" }
  for _, row in ipairs(rows) do
    if type(row[column]) == "number" then
      lines[#lines + 1] = ("%g %.9g"):format(row.epoch, row[column] * factor)
    end
  end
  lines[#lines + 1] = "EOD"
  return #lines > 2 and table.concat(lines, "\n") or nil
end

-- One panel: training and test values of one measure.
local function panel(rows, measure, title, factor)
  local data, plots = {}, {}
  for i, part in ipairs { "train", "test" } do
    local name = part .. "_" .. measure
    local text = block(name, rows, name, factor)
    if text then
      data[#data + 1] = text
      plots[#plots + 1] = ("$%s using 1:2 with linespoints lw 2 pt 7 ps 0.7 lc %d title '%s'")
        :format(name, i, part)
    end
  end
  if #plots == 0 then return "" end
  return table.concat(data, "\n") .. ("\nset title '%s'\nplot "):format(title)
    .. table.concat(plots, ", ") .. "\n"
end

--- Draws the curves.
-- @string csv_path metrics.csv
-- @string png_path what to write
-- @return true, or nil and a sentence
-- @usage local moon = require "moonlet"
-- local done, why = moon.viz.curves("/no/such/metrics.csv", "curves.png")
-- assert(not done and why)
return function(csv_path, png_path)
  local rows, problem = Csv.read(csv_path)
  if not rows then return nil, tostring(problem) end
  if #rows == 0 then return nil, csv_path .. " holds no completed epoch yet" end
  local script = "set grid\nset xlabel 'epoch'\nset xtics 1\nset key bottom\n"
    .. ("set xrange [%g:%g]\n"):format(rows[1].epoch - 0.5, rows[#rows].epoch + 0.5)
    .. (#rows > 20 and "set xtics auto\n" or "")
    .. "set multiplot layout 1,2\nset key top right\n"
    .. panel(rows, "loss", "loss", 1)
    .. "set key bottom right\n"
    .. panel(rows, "accuracy", "accuracy, %", 100)
    .. "unset multiplot"
  return gnuplot.run(png_path, script)
end
