-- Direct and Fourier convolution, timed against each other: signals of 16,384 elements with kernels
-- of growing length, then images of 256 x 256 with growing squares. Each is the median of several
-- rounds in microseconds; "crossover" is the smallest kernel from which on Fourier is quicker.
--
--   luajit bench/convolve.lua

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"
local clocks = require "bench.parts.clocks"

local measure = clocks.measurer("wall", moon.get_num_threads(), 0.2)

local function microseconds(convolve, input, kernel)
  return measure(function() convolve(input, kernel, "same") end) * 1e3
end

-- The smallest size from which on Fourier was quicker throughout.
local function crossover(rows)
  local from
  for i = #rows, 1, -1 do
    if rows[i].fourier >= rows[i].direct then break end
    from = rows[i].size
  end
  return from
end

local function compare(title, input, sizes, kernel_of, name_of)
  print(title)
  print(("%-12s %12s %12s %10s"):format("kernel", "direct us", "Fourier us", "off by"))
  local rows = {}
  for i, size in ipairs(sizes) do
    local kernel = kernel_of(size)
    local direct, fourier = moon.convolve(input, kernel, "same"),
      moon.fft_convolve(input, kernel, "same")
    local row = {
      size = size,
      direct = microseconds(moon.convolve, input, kernel),
      fourier = microseconds(moon.fft_convolve, input, kernel),
    }
    rows[i] = row
    print(("%-12s %12.0f %12.0f %10.1e"):format(name_of(size), row.direct, row.fourier,
      (direct - fourier):abs():max():item()))
  end
  local from = crossover(rows)
  print(("crossover    %s\n"):format(from and name_of(from) or "beyond the largest"))
end

moon.manual_seed(1)
for _, dtype in ipairs { "float32", "float64" } do
  local options = { dtype = dtype }
  compare("signal of 16384, " .. dtype, moon.randn(16384, options),
    { 3, 9, 17, 33, 65, 129, 257, 513, 1025, 2049, 4097 },
    function(size) return moon.randn(size, options) end, tostring)
  compare("image of 256 x 256, " .. dtype, moon.randn(256, 256, options),
    { 3, 5, 7, 11, 15, 21, 31, 45 },
    function(size) return moon.randn(size, size, options) end,
    function(size) return size .. " x " .. size end)
end
