-- Choices among cuDNN's algorithms that a file keeps from one start to the next, with a stand-in
-- that prints what it is asked (spec/emulated/stand_in.h).
local libraries = require "spec.support.gpu_libraries"

if libraries.absent or not libraries.emulated then return end

local name

local function contents()
  local file = assert(io.open(name, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function put(text)
  local file = assert(io.open(name, "wb"))
  file:write(text)
  file:close()
end

-- Two steps with two convolutions, of which the file knows or not: what the stand-in was asked.
local function work()
  local output, well = libraries.run(([[
    moon.cuda.benchmark(true, %q)
    for kernel = 1, 3, 2 do
      local x, w = moon.randn(2, 4, 8, 8):to(device), moon.randn(4, 4, kernel, kernel):to(device)
      moon.conv2d(x, w) moon.conv2d(x, w)
    end
    moon.cuda.synchronize()
  ]]):format(name), { EMULATED_TRACE = 1 })
  assert.is_true(well, output)
  return select(2, output:gsub("cudnnConvolutionForward %d", ""))
end

local timed, known = 4 + 2 + 6 + 2, 2 + 2   -- two runs of each algorithm that fits, and the work

describe("choices of cuDNN", function()
  before_each(function() name = os.tmpname() end)   -- which makes the file, empty
  after_each(function() os.remove(name) end)

  it("are found out once", function()
    assert.are.equal(timed, work())
    local text = contents()
    assert.truthy(text:match "\nend 2\n$")
    assert.are.equal(known, work())
    assert.are.equal(text, contents())
  end)

  it("are kept for volumes beside those for images", function()
    local function volume()
      local output, well = libraries.run(([[
        moon.cuda.benchmark(true, %q)
        local x, w = moon.randn(2, 4, 5, 6, 7):to(device), moon.randn(4, 4, 1, 2, 3):to(device)
        moon.conv3d(x, w) moon.conv3d(x, w)
        moon.cuda.synchronize()
      ]]):format(name), { EMULATED_TRACE = 1 })
      assert.is_true(well, output)
      return select(2, output:gsub("cudnnConvolutionForward %d", ""))
    end
    work()
    local images = contents():match "(.*\n)end 2\n$"
    assert.are.equal(4 + 2, volume())
    local text = contents()
    assert.are.equal(images, text:sub(1, #images))
    local line = text:sub(#images + 1):match "^(.-)\nend 3\n$"
    assert.truthy(line:find(" 1 2 4 5 6 7 4 4 1 2 3 2 4 5 5 5 0 0 0 1 1 1 1 1 1 1 ", 1, true), line)
    assert.are.equal(2, volume())
    assert.are.equal(known, work())
    assert.are.equal(text, contents())
    put(images .. line:gsub(" %d+$", "") .. "\nend 3\n")   -- neither an image's nor a volume's
    assert.is_false(select(2, libraries.run(("moon.cuda.benchmark(true, %q)"):format(name))))
  end)

  it("begin without a file", function()
    os.remove(name)
    assert.are.equal(timed, work())
    assert.are.equal(known, work())
  end)

  it("of another version or device count as none", function()
    work()
    local text = contents()
    for from, to in pairs { ["cuDNN %d+"] = "cuDNN 80000", ["on emulated"] = "on another" } do
      put((text:gsub(from, to)))
      assert.are.equal(timed, work())
      assert.are.equal(select(2, text:gsub("\n", "\n")), select(2, contents():gsub("\n", "\n")))
      assert.truthy(contents():find(text:match "cuDNN %d+ on emulated", 1, true))
    end
  end)

  it("that are advised no longer are found out again, and replaced", function()
    work()
    put((contents():gsub("(%d) %d\n", "%1 7\n")))
    assert.are.equal(timed, work())
    assert.truthy(contents():match "\nend 2\n$")
    assert.are.equal(known, work())
  end)

  it("that are damaged, or something else, are left alone and named", function()
    work()
    local text = contents()
    local lines = #text:match "^(.-\n.-\n)"
    local damaged = {
      "my diary\n", text:sub(1, 20), text:sub(1, -2), text:sub(1, lines), text .. "more",
      (text:gsub("end 2", "end 3")), (text:gsub("(%d) %d\n", "%1 99\n")),
      (text:gsub("\n0 ", "\n0x")), text:sub(1, lines) .. text:sub(lines + 30),
    }
    for _, other in ipairs(damaged) do
      put(other)
      local output, well = libraries.run(("moon.cuda.benchmark(true, %q)"):format(name))
      assert.is_false(well)
      assert.truthy(output:find(name .. " holds no choices of cuDNN's, or is damaged", 1, true),
        output)
      assert.are.equal(other, contents())
    end
  end)

  it("need a place that can be written, and a name", function()
    local output = libraries.run [[
      for _, given in ipairs { { true, "/no/such/folder/choices" }, { true, 3 }, { false, "x" },
                               { true, "choices", 9 } } do
        print(select(2, pcall(moon.cuda.benchmark, given[1], given[2], given[3])))
      end
      print(moon.cuda.benchmark())
    ]]
    assert.truthy(output:find("/no/such/folder/choices", 1, true), output)
    assert.truthy(output:find("file must be a name, got number", 1, true), output)
    assert.truthy(output:find("to switch it on, not off", 1, true), output)
    assert.truthy(output:find("the device must be a number from 0 to 1", 1, true), output)
    assert.truthy(output:find "false\n$", output)
  end)

  it("of an engine go with it, and another file takes the place of the first", function()
    local other = os.tmpname()
    local output, well = libraries.run(([[
      local x, w = moon.randn(1, 2, 5, 5):to(device), moon.randn(2, 2, 1, 1):to(device)
      moon.cuda.benchmark(true, %q)
      moon.conv2d(x, w)
      moon.cuda.benchmark(true, %q)
      moon.conv2d(x:view(1, 2, 25, 1), w)
    ]]):format(other, name))
    os.remove(other)
    assert.is_true(well, output)
    assert.truthy(contents():match "\nend 1\n$")
  end)
end)
