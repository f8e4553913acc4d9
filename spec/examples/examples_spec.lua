-- The examples as programs of their own, on a small made-up set, from another working directory.
local pictures = require "spec.support.pictures"
local sources = require "spec.support.sources"

local function first_line(command)
  local pipe = io.popen(command)
  local line = pipe:read("*l")
  pipe:close()
  return line
end

local root = first_line("cd '" .. sources.root .. "' && pwd")
local build = os.getenv("MOONLET_BUILD")
if build and build:sub(1, 1) ~= "/" then build = root .. "/" .. build end
local lua = rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d+%.%d+")

-- Runs a command in `folder`; its output and exit status.
local function run(folder, command)
  local pipe = io.popen(("cd '%s' && { %s; } 2>&1; echo \"status $?\""):format(folder, command))
  local text = pipe:read("*a")
  pipe:close()
  local output, status = text:match("^(.*)status (%d+)\n$")
  return output, tonumber(status)
end

local function example(name, arguments)
  local set = build and ("env MOONLET_BUILD='%s' "):format(build) or ""
  return ("%s%s '%s/examples/%s.lua' %s"):format(set, lua, root, name, arguments)
end

-- The command with Ctrl-C pressed once it has printed `words`; what it printed is printed then. It
-- stays in the foreground: shells let those behind it ignore the signal.
local function pressed(words, command)
  return ([[{ for i in $(seq 1200); do grep -q '%s' log && break; sleep 0.1; done
    kill -INT "$(cat pid)"; } &
    : > log; sh -c 'echo $$ > pid; exec "$@"' sh %s > log 2>&1; code=$?; wait; cat log
    ( exit $code )]]):format(words, command)
end

describe("examples/train_vgg.lua", function()
  local folder, clean, base
  setup(function()
    folder, clean = pictures.folder()
    pictures.make_set(folder, 64)
    base = ("--root '%s' --width 0.03 --batch 16 --threads 1 "):format(folder)
  end)
  teardown(function() clean() end)

  it("trains and leaves its files in runs/", function()
    local output, status = run(folder, example("train_vgg", base .. "--name first --epochs 2"))
    assert.equal(0, status, output)
    assert.matches("Conv2d %(features.1%) +2 x 32 x 32", output)
    assert.matches("epoch 1/2 +25 %%  loss", output)
    assert.matches("epoch 2/2: train loss", output)
    for _, name in ipairs { "checkpoint.safetensors", "metrics.csv", "filters.png",
      "confusion.png" } do
      local file = io.open(folder .. "/runs/first/" .. name, "rb")
      assert(file, name .. " is missing")
      file:close()
    end
  end)

  it("stops after a few steps when asked to", function()
    local output, status = run(folder, example("train_vgg", base .. "--name few --limit 2"))
    assert.equal(0, status, output)
    assert.matches("test accuracy", output)
  end)

  it("stops at Ctrl-C, says where the checkpoint is and goes on from it", function()
    local output, status = run(folder,
      pressed("epoch 1/", example("train_vgg", base .. "--name long --epochs 100000")))
    assert.equal(130, status, output)
    assert.matches("stopped after step %d+; the checkpoint is runs/long/checkpoint.safetensors",
      output)
    local step = tonumber(output:match("stopped after step (%d+)"))
    output, status = run(folder, example("train_vgg", ("--root '%s' --threads 1 --name long "
      .. "--resume --limit %d"):format(folder, step + 3)))
    assert.equal(0, status, output)
    assert.matches("going on after step " .. step, output)
  end)

  it("answers mistakes with a sentence", function()
    local cases = {
      { "--widht 3", 2, "there is no flag %-%-widht, did you mean %-%-width" },
      { "--config F", 2, "%-%-config must be one of A, A%-LRN, B, C, D, E, not F" },
      { "--root /no/such/folder", 1, "FashionMNIST: .* are not in /no/such/folder" },
      { "--resume --name never", 1, "there is no runs/never/checkpoint.safetensors" },
      { base .. "--resume --name few --config B", 1, "was made with %-%-config A, not B" },
    }
    run(folder, example("train_vgg", base .. "--name few --limit 1"))
    for _, case in ipairs(cases) do
      local output, status = run(folder, example("train_vgg", case[1]))
      assert.equal(case[2], status, output)
      assert.matches(case[3], output)
      assert.not_matches("stack traceback", output)
    end
  end)

  it("lists its flags", function()
    local output, status = run(folder, example("train_vgg", "--help"))
    assert.equal(0, status)
    assert.matches("%-%-width NUMBER", output)
  end)
end)

describe("examples/mnist_cnn.lua", function()
  it("trains until a goal is reached", function()
    local folder, clean = pictures.folder()
    pictures.make_set(folder, 60)
    local output, status = run(folder,
      example("mnist_cnn", "--until 10 --batch 10 --threads 1 --root '" .. folder .. "'"))
    clean()
    assert.equal(0, status, output)
    assert.matches("10.0 %% of the test set after %d+.%d seconds", output)
  end)
end)

describe("examples/train_cifar.lua", function()
  local folder, clean, base
  setup(function()
    folder, clean = pictures.folder()
    pictures.make_cifar(folder, { "data_batch_1", "data_batch_3", "test_batch" }, 30)
    base = ("--data '%s' --batches 1,3 --width 2 --batch 10 --threads 1 "):format(folder)
  end)
  teardown(function() clean() end)

  for _, dtype in ipairs { "float32", "bfloat16" } do
    it("trains in " .. dtype .. " and leaves its files in runs/", function()
      local output, status = run(folder,
        example("train_cifar", ("%s--epochs 2 --name %s --dtype %s"):format(base, dtype, dtype)))
      assert.equal(0, status, output)
      assert.matches("epoch 2/2: train loss [%d.]+, accuracy [%d.]+ %%; test loss", output)
      local file = io.open(folder .. "/runs/" .. dtype .. "/checkpoint.safetensors", "rb")
      assert(file, "the checkpoint is missing")
      file:close()
    end)
  end

  it("gives the same for the same seed, and stops and goes on to the same", function()
    local function last_line(arguments)
      local output, status = run(folder, example("train_cifar", arguments))
      assert.equal(0, status, output)
      return output:match("(epoch 2/2: .-); [%d.]+ s")
    end
    local whole = last_line(base .. "--epochs 2 --name whole --dtype bfloat16 --seed 3")
    assert.is_truthy(whole)
    local output = run(folder,
      example("train_cifar", base .. "--epochs 2 --name part --dtype bfloat16 --seed 3 --limit 8"))
    assert.matches("test accuracy", output)
    assert.equal(whole, last_line(("--data '%s' --threads 1 --name part --resume"):format(folder)))
    assert.not_equal(whole, last_line(base .. "--epochs 2 --name other --seed 4 --workers 0"))
  end)

  it("answers mistakes with a sentence", function()
    local cases = {
      { base .. "--batches 1,2", 1, "CIFAR10: data_batch_2.bin is not in" },
      { base .. "--batches 1,x", 1, 'CIFAR10: batches must be numbers from 1 to 5; found "x"' },
      { "--data /no/such/folder", 1, "CIFAR10: .* are not in /no/such/folder" },
      { "--dtype half", 2, "%-%-dtype must be one of float32, bfloat16, not half" },
    }
    for _, case in ipairs(cases) do
      local output, status = run(folder, example("train_cifar", case[1]))
      assert.equal(case[2], status, output)
      assert.matches(case[3], output)
      assert.not_matches("stack traceback", output)
    end
  end)
end)
