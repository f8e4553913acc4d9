-- The loader: the same batches whatever the number of workers, and going on from any of them.
local moon = require "moonlet"
local data = moon.data
local pictures = require "spec.support.pictures"

local function numbers(count) return data.TensorDataset(moon.arange(1, count)) end

-- All batches of one epoch as tables.
local function epoch(loader)
  local batches = {}
  for x, y in loader:iter() do
    batches[#batches + 1] = { x:totable(), y and y:totable() }
  end
  return batches
end

local function flat(batches)
  local list = {}
  for _, batch in ipairs(batches) do
    for _, value in ipairs(batch[1]) do list[#list + 1] = value end
  end
  return list
end

describe("Loader", function()
  it("gives batches in order, the last one short", function()
    local loader = data.Loader(numbers(5), { batch = 2 })
    assert.equal(3, loader:size())
    assert.same({ 1, 2, 3, 4, 5 }, flat(epoch(loader)))
    assert.equal(2, data.Loader(numbers(5), { batch = 2, drop_last = true }):size())
    assert.same({ 1, 2, 3, 4 }, flat(epoch(
      data.Loader(numbers(5), { batch = 2, drop_last = true }))))
  end)

  it("is also what a for loop calls", function()
    local loader, seen = data.Loader(numbers(5), { batch = 2 }), 0
    for x in loader do seen = seen + x:numel() end
    for x in loader do
      seen = seen + x:numel()
      if seen > 5 then break end
    end
    for x in loader do seen = seen + x:numel() end
    assert.equal(5 + 2 + 5, seen)
  end)

  it("shuffles each epoch anew, each sample once, the same for the same seed", function()
    local a = data.Loader(numbers(50), { batch = 8, shuffle = true, seed = 3 })
    local b = data.Loader(numbers(50), { batch = 8, shuffle = true, seed = 3 })
    local first, second = flat(epoch(a)), flat(epoch(a))
    assert.same(first, flat(epoch(b)))
    assert.same(second, flat(epoch(b)))
    assert.not_same(first, second)
    table.sort(first)
    assert.same(moon.arange(1, 50):totable(), first)
  end)

  it("takes its seed from the random stream", function()
    local function make()
      moon.manual_seed(11)
      return flat(epoch(data.Loader(numbers(20), { batch = 4, shuffle = true })))
    end
    assert.same(make(), make())
  end)

  it("leaves the random stream as it was", function()
    moon.manual_seed(4)
    local expected = moon.rand(1)[1]
    moon.manual_seed(4)
    epoch(data.Loader(numbers(20), { batch = 4, shuffle = true, seed = 1 }))
    assert.equal(expected, moon.rand(1)[1])
  end)

  it("takes a plain table and stacks its samples", function()
    local loader = data.Loader({ { moon.ones(2), 3 }, { moon.zeros(2), 1 } }, { batch = 2 })
    local x, y = loader:iter()()
    assert.same({ { 1, 1 }, { 0, 0 } }, x:totable())
    assert.equal("int64", y.dtype)
    assert.same({ 3, 1 }, y:totable())
  end)

  it("says how a real value is returned", function()
    local ok, message = pcall(data.Loader({ { 0.5 } }):iter())
    assert.is_false(ok)
    assert.matches("moon.tensor%(0.5%)", message)
  end)

  it("goes on in the middle of an epoch from its state", function()
    local o = { batch = 3, shuffle = true, seed = 5 }
    local whole, part = data.Loader(numbers(20), o), data.Loader(numbers(20), o)
    epoch(whole)
    epoch(part)
    local next_batch = part:iter()
    next_batch()
    next_batch()
    local resumed = data.Loader(numbers(20), { batch = 3, shuffle = true })
    resumed:load_state_dict(part:state_dict())
    local expected = epoch(whole)
    local rest = epoch(resumed)
    assert.equal(#expected - 2, #rest)
    assert.same(expected[3], rest[1])
    assert.same(expected[#expected], rest[#rest])
    assert.same(epoch(whole), epoch(resumed))
  end)

  it("takes its last batch back", function()
    local loader = data.Loader(numbers(6), { batch = 2 })
    local next_batch = loader:iter()
    next_batch()
    local second = next_batch():totable()
    loader:give_back()
    assert.same(second, loader:iter()():totable())
  end)

  it("is empty over an empty dataset", function()
    assert.equal(0, #epoch(data.Loader({}, { batch = 2, shuffle = true })))
  end)

  it("refuses what is no dataset, and a state of another one", function()
    local _, message = pcall(data.Loader, 3)
    assert.matches("Loader: a dataset has size%(%) and get%(i%)", message)
    _, message = pcall(data.Loader, {}, { bach = 2 })
    assert.matches('did you mean "batch"', message)
    local loader = data.Loader(numbers(6), { batch = 2 })
    _, message = pcall(loader.load_state_dict, loader,
      data.Loader(numbers(5), { batch = 2 }):state_dict())
    assert.matches("this loader has samples = 6, the state has 5", message)
  end)
end)

describe("a loader with workers", function()
  local folder, remove
  setup(function()
    folder, remove = pictures.folder()
    pictures.make_set(folder, 40)
  end)
  teardown(function() remove() end)

  local function random_set()
    local t = data.transforms
    return data.MNIST {
      root = folder,
      transform = t.compose { t.pad(2), t.random_crop(28), t.random_horizontal_flip() },
    }
  end

  local function run(workers, dataset)
    local loader = data.Loader(dataset or random_set(),
      { batch = 7, shuffle = true, seed = 9, workers = workers })
    local batches = { epoch(loader), epoch(loader) }
    loader:close()
    return batches
  end

  it("gives the same batches as one without", function()
    local expected = run(0)
    assert.same(expected, run(1))
    assert.same(expected, run(3))
  end)

  it("does so for subsets and tensors too", function()
    local x = moon.randn(30, 4)
    local subset = data.Subset(data.TensorDataset(x, moon.arange(1, 30)), { 4, 9, 2, 30, 17 })
    assert.same(run(0, subset), run(2, subset))
  end)

  it("starts a new epoch cleanly after one that was left", function()
    local loader = data.Loader(numbers(40), { batch = 2, seed = 1, shuffle = true, workers = 2 })
    local other = data.Loader(numbers(40), { batch = 2, seed = 1, shuffle = true })
    loader:iter()()
    other:iter()()
    assert.same(epoch(other), epoch(loader))
    loader:close()
  end)

  it("shares tensors with its workers and copies nothing", function()
    local x = moon.zeros(4)
    local loader = data.Loader(data.TensorDataset(x), { batch = 4, workers = 1 })
    x:fill_(7)
    assert.same({ 7, 7, 7, 7 }, epoch(loader)[1][1])
    loader:close()
  end)

  it("refuses closures with a sentence that says where they are", function()
    local set = data.MNIST { root = folder, transform = function(x) return x end }
    local ok, message = pcall(data.Loader, set, { workers = 2 })
    assert.is_false(ok)
    assert.matches("Loader: workers = 2 runs the dataset in other Lua states, but "
      .. "the loader.dataset.transform is a Lua function %(.*loader_spec.lua:%d+%)", message)
    assert.matches("data.named", message)
  end)

  it("refuses objects that do not say which module makes them", function()
    local Mine = require("moonlet.data.dataset"):extend "Mine"
    function Mine:size() return 1 end
    local _, message = pcall(data.Loader, Mine(), { workers = 1 })
    assert.matches("does not say which module makes it", message)
  end)

  it("passes on what went wrong in a worker", function()
    local set = data.MNIST { root = folder, transform = data.transforms.random_crop(99) }
    local loader = data.Loader(set, { workers = 1 })
    local ok, message = pcall(loader:iter())
    loader:close()
    assert.is_false(ok)
    assert.matches("random_crop: the picture is 28x28", message)
  end)

  it("can be left running when its state closes", function()
    local loader = data.Loader(numbers(40), { batch = 2, workers = 2 })
    loader:iter()()
  end)
end)

describe("data.named", function()
  it("makes objects of one's own modules that workers can build", function()
    local set = data.named("spec.support.squares", 6)
    local loader = data.Loader(set, { batch = 3, workers = 2 })
    assert.same({ { { 1, 4, 9 } }, { { 16, 25, 36 } } }, epoch(loader))
    loader:close()
  end)

  it("says what it wants", function()
    assert.has_error(function() data.named(3) end)
    assert.has_error(function() data.named("math") end)
  end)
end)
