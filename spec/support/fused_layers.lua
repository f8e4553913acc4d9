-- Fully connected layers with a bias and an activation on a device against the CPU: rows that lie
-- evenly and unevenly (a stack of products), biases with gaps and of another type, NaN.
local moon = require "moonlet"

local allowed = { float64 = 1e-10, float32 = 1e-4, bfloat16 = 0.1 }

local function compare(device, dtype, activation, x, w, b)
  local there = moon.linear_fused(x:to(device), w:to(device), b and b:to(device),
    { activation = activation })
  local here = moon.linear_fused(x, w, b, { activation = activation })
  local off = (there:cpu():to "float64" - here:to "float64"):abs():max():item()
  if off > allowed[dtype] then
    error(("%s, %s: %g apart"):format(dtype, activation, off), 3)
  end
end

return function(device)
  for dtype in pairs(allowed) do
    local rows = moon.randn(3, 5, 8):to(dtype)
    local w, wide = moon.randn(7, 8):to(dtype), moon.randn(14):to(dtype)
    local biases = { wide[{ { 1, 7 } }], wide:view(7, 2):select(2, 1) }
    if dtype == "bfloat16" then biases[3] = moon.randn(7) end
    for _, activation in ipairs { "none", "relu", "relu6" } do
      for _, x in ipairs { rows, rows[{ {}, { 2, 4 } }] } do
        compare(device, dtype, activation, x, w)
        for _, b in ipairs(biases) do compare(device, dtype, activation, x, w, b) end
      end
    end
  end
  local x, w = moon.ones(3, 4), moon.ones(2, 4)
  x[{ 2, 3 }] = 0 / 0
  local y = moon.linear_fused(x:to(device), w:to(device), moon.ones(2):to(device),
    { activation = "relu" })
  if y:isnan():sum():item() ~= 2 then error("ReLU made numbers of NaN", 2) end
end
