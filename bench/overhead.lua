-- What a call costs: nanoseconds to add two one-element tensors from Lua, with the JIT compiler on
-- and off, with and without the tape; to call a module; and a parameter's share of a step of an
-- optimiser over a hundred of one element. Medians of seven rounds, by the processor's time, which
-- other programs disturb least. Then start-up: time and resident size of `require "moonlet"` in a
-- fresh process, and the size of the library.
--
--   luajit bench/overhead.lua

local here = arg[0]:match("^(.*)/bench/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
local moon = require "moonlet"

local ROUNDS, CALLS = 7, 200000

local function median(values)
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

-- The median time of one of the `calls` calls that `run` makes.
local function nanoseconds(calls, run, ...)
  local times = {}
  for round = 1, ROUNDS do
    local started = os.clock()
    run(calls, ...)
    times[round] = (os.clock() - started) / calls * 1e9
  end
  return median(times)
end

local function show(label, time) print(("%-28s %6.0f ns"):format(label, time)) end

local function add(calls, a, b)
  for _ = 1, calls do local _ = a + b end
end

local function measure_calls(label)
  local a, b = moon.ones(1), moon.ones(1)
  local leaf = moon.ones(1, { requires_grad = true })
  show(label .. ", tape off", nanoseconds(CALLS, add, a, b))
  show(label .. ", tape on", nanoseconds(CALLS, add, leaf, b))
end

local function call(calls, module, x)
  for _ = 1, calls do local _ = module(x) end
end

local function measure_module()
  local x = moon.ones(1, 1)
  show("nn.ReLU", nanoseconds(CALLS, call, moon.nn.ReLU(), x))
  show("nn.Linear(1, 1), tape on", nanoseconds(CALLS, call, moon.nn.Linear(1, 1), x))
end

local function step(calls, optimizer, parameters)
  for _ = 1, calls / #parameters do optimizer:step() end
end

local function measure_step()
  local parameters = {}
  for i = 1, 100 do
    parameters[i] = moon.ones(1, { requires_grad = true })
    parameters[i].grad = moon.ones(1)
  end
  for _, name in ipairs { "SGD", "Adam" } do
    local optimizer = moon.optim[name](parameters, { lr = 0.1 })
    show(name .. ", a parameter", nanoseconds(CALLS, step, optimizer, parameters))
  end
end

-- The interpreter that runs this file.
local function interpreter()
  local first = 0
  while arg[first - 1] do first = first - 1 end
  return arg[first]
end

local function measure_start()
  local lua, times, resident = interpreter(), {}, nil
  local program = ("package.path = '%s/?.lua;' .. package.path; local moon = require 'moonlet'; "
    .. "print(moon.resident())"):format(here)
  local nothing = {}
  for round = 1, 2 * ROUNDS do
    local list = round % 2 == 0 and times or nothing
    local started = moon.clock()
    local pipe = io.popen(('%s -e "%s"'):format(lua, round % 2 == 0 and program or "print(0)"))
    local answer = tonumber(pipe:read("*l"))
    pipe:close()
    list[#list + 1] = moon.clock() - started
    if round % 2 == 0 then resident = answer end
  end
  print(("%-28s %6.1f ms (the bare interpreter %.1f ms)"):format("start with require",
    median(times) * 1e3, median(nothing) * 1e3))
  print(("%-28s %6.1f MB"):format("resident after require", resident / 1e6))
end

local function measure_size()
  for template in package.cpath:gmatch("[^;]+") do
    local path = template:gsub("?", "moonlet/core")
    local file = io.open(path, "rb")
    if file then
      print(("%-28s %6.2f MB  %s"):format("library", file:seek("end") / 1e6, path))
      file:close()
      return
    end
  end
end

if rawget(_G, "jit") then
  measure_calls("add, JIT on")
  jit.off()
  measure_calls("add, JIT off")
  jit.on()
else
  measure_calls("add, " .. _VERSION)
end
measure_module()
measure_step()
measure_start()
measure_size()
