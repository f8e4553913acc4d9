-- What the states of the host program learn: a small network with layers of every family, on
-- pictures made up from the seed. The same seed must give the same weights, bit for bit, in every
-- state, on any number of threads, beside other states and after a fork.

local moon = require "moonlet"
local nn, optim = moon.nn, moon.optim

local M = {}

--- Starts a lesson: p.step(count) trains, p.weights() gives all parameters and buffers as bytes.
function M.start(seed)
  moon.manual_seed(seed)
  local net = nn.Sequential(
    nn.Conv2d(3, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
    nn.Dropout(0.2), nn.Flatten(), nn.Linear(8 * 8 * 8, 10))
  local x, y = moon.randn(32, 3, 16, 16), moon.randint(1, 10, { 32 })
  local opt = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
  local p = {}

  function p.step(count)
    for _ = 1, count do
      local loss = nn.functional.cross_entropy(net(x), y)
      opt:zero_grad()
      loss:backward()
      opt:step()
    end
  end

  function p.weights()
    local parts, names = {}, {}
    local dict = net:state_dict()
    for name in pairs(dict) do names[#names + 1] = name end
    table.sort(names)
    for i, name in ipairs(names) do parts[i] = dict[name]:tobytes() end
    return table.concat(parts)
  end

  return p
end

--- A whole lesson.
function M.learn(seed, steps)
  local p = M.start(seed)
  p.step(steps)
  return p.weights()
end

--- A worker that sends back what it receives; after "done" it holds none of it any more.
function M.echo(receive, send)
  for value in receive do
    if value == "done" then collectgarbage() end
    send(value)
  end
end

--- A worker that gives a whole lesson for every value it receives.
function M.teach(receive, send, arguments)
  for _ in receive do send(M.learn(arguments.seed, arguments.steps)) end
end

--- A worker that makes one tensor, sends it and ends.
function M.give(_, send, arguments)
  send(moon.full({ arguments.count }, arguments.value))
end

return M
