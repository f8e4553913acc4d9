-- What spec/lua/worker_spec.lua and spec/cuda/crossing_spec.lua run in workers. Each function takes
-- (receive, send, arguments).
local moon = require "moonlet"

local workers = {}

-- Sends everything back. receive() gives nothing, not even nil, when the worker is closed.
function workers.echo(receive, send)
  local function answer(...)
    if select("#", ...) == 0 then return false end
    send((...))
    return true
  end
  while answer(receive()) do end
end

-- Adds a number to tensors, in place, and says when it did.
function workers.add(receive, send, arguments)
  for tensor in receive do
    tensor:add_(arguments.by)
    send("done")
  end
end

function workers.fail(_, _, arguments)
  error(arguments)
end

function workers.fail_in_operator()
  return moon.ones(2, 3):view(7)
end

function workers.count(_, send, arguments)
  for i = 1, arguments.to do send(i) end
end

-- Works without looking at its channel for so many seconds, then says so.
function workers.busy(_, send, arguments)
  local start, x = moon.clock(), moon.ones(100, 100)
  while moon.clock() - start < arguments.seconds do x = (x:matmul(x) * 0.001):clamp(0, 1) end
  send "tired"
end

-- What of the state's own settings it finds.
function workers.settings(_, send)
  send { grad = moon.is_grad_enabled(), threads = moon.get_num_threads(), precise = moon.precise(),
         live = moon.memory().live, first = moon.rand(1):item() }
  moon.no_grad(function() send(moon.is_grad_enabled()) end)
end

-- Makes a tensor and ends.
function workers.give(_, send, arguments)
  send(moon.arange(1, arguments.count, 1, { dtype = "float32" }))
end

-- Trains on a CUDA device, and sends what came of it to the CPU.
function workers.train_on_device(_, send, arguments)
  local gpu = require "spec.support.gpu"
  moon.manual_seed(arguments.seed)
  local net = moon.nn.Sequential(moon.nn.Linear(5, 16), moon.nn.ReLU(), moon.nn.Linear(16, 2))
  local x, y = moon.randn(12, 5), moon.randint(1, 2, { 12 })
  net, x, y = net:to(gpu.device), x:to(gpu.device), y:to(gpu.device)
  local optimizer = moon.optim.SGD(net:parameters(), { lr = 0.1 })
  for _ = 1, arguments.steps do
    optimizer:zero_grad()
    moon.cross_entropy(net(x), y):backward()
    optimizer:step()
  end
  send(net[1].weight:detach():cpu())
end

-- Sends what a CUDA device is yet to calculate, and goes on until it is closed.
function workers.give_from_device(receive, send, arguments)
  local gpu = require "spec.support.gpu"
  for _ = 1, arguments.times do
    send(moon.full({ arguments.count }, 2, { device = gpu.device }) * 3)
  end
  receive()
end

-- Asks the device for three times what it is sent, which it gives up, and for the sum when told to.
function workers.triple_on_device(receive, send)
  local function times_three() return receive() * 3 end   -- what it was given stays on its stack
  local triple = times_three()
  for _ = 1, 3 do collectgarbage() end
  send "asked"
  receive()
  send(triple:sum():item())
end

function workers.look(receive, send)
  local tensor = receive()
  send { requires_grad = tensor.requires_grad, is_leaf = tensor.is_leaf }
  send((tensor * 2):requires_grad_() * 1)
end

-- Trains a small network and sends its weights as bytes.
function workers.train(_, send, arguments)
  local nn, optim = moon.nn, moon.optim
  moon.set_num_threads(arguments.threads)
  moon.manual_seed(arguments.seed)
  local net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Dropout(0.3), nn.Linear(8 * 13 * 13, 10))
  local opt = optim.Adam(net:parameters(), { lr = 1e-2 })
  for _ = 1, arguments.steps do
    local x, y = moon.randn(32, 1, 28, 28), moon.randint(1, 10, { 32 })
    opt:zero_grad()
    moon.cross_entropy(net(x), y):backward()
    opt:step()
  end
  local bytes = {}
  for i, parameter in ipairs(net:parameters()) do bytes[i] = parameter:tobytes() end
  send(bytes)
end

-- A worker of a worker: passes one value down and its answer up.
function workers.pass(receive, send)
  local inner = moon.worker_new("spec.support.workers", "echo")
  inner:send(receive())
  send(inner:receive())
  inner:close()
end

return workers
