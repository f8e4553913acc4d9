-- CUDA where it cannot be used: what is said, while the CPU goes on working. Needs no GPU.
local moon = require "moonlet"
local child = require "spec.support.child"
local sources = require "spec.support.sources"

local there = moon.cuda.is_available()

-- Why CUDA cannot be used in a process that looks for the plug-in in `file`, where the CPU goes on
-- working.
local function reason(file, environment)
  local output, well = child.run(([[
    local moon = require "moonlet"
    local file = %q
    if file ~= "" then moon.cuda.look { plugin = file } end
    local available, why = moon.cuda.is_available()
    assert(not available and moon.cuda.device_count() == 0)
    local ok, message = pcall(moon.zeros, 2, { device = "cuda" })
    assert(not ok and message:find(why, 1, true), message)
    assert(moon.ones(2):sum():item() == 2)
    io.write(why)
  ]]):format(file or ""), environment)
  assert.is_true(well, output)
  return output
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

local build = os.getenv "MOONLET_BUILD" or sources.root .. "/build"
local emulated, real = build .. "/emulated/cuda.so", build .. "/moonlet/cuda.so"
local other_version = build .. "/emulated/other_version.so"

describe("CUDA that cannot be used is a sentence:", function()
  if exists(emulated) and not there then
    it("without a driver", function()
      assert.matches("no NVIDIA driver", reason(emulated, { EMULATED_CUDA = "no driver" }))
    end)
    it("with a driver that is too old", function()
      local why = reason(emulated, { EMULATED_CUDA = "old driver" })
      assert.matches("too old", why)
      assert.matches("11.4", why, 1, true)
      assert.matches("13.0", why, 1, true)
    end)
    it("without a device", function()
      assert.matches("finds no GPU", reason(emulated, { EMULATED_CUDA = "no device" }))
    end)
  end

  if exists(real) and not there then
    it("where the plug-in is there but no GPU", function()
      local why = reason(real)
      assert.is_truthy(why:find("driver", 1, true), why)
    end)
  elseif not there then
    it("without the plug-in", function()
      assert.matches("built without CUDA", reason())
    end)
  end

  it("with a file that is no plug-in", function()
    local name = os.tmpname()
    assert.matches("cannot be opened", reason(name))
    os.remove(name)
    assert.matches("is no CUDA plug%-in of moonlet",
      reason(build .. "/" .. child.lua .. "/moonlet/core.so"))
  end)

  if exists(other_version) then
    it("with a plug-in of another version, of which nothing is run", function()
      assert.matches("another version of moonlet %(border 1, this one has %d+%); build it again",
        reason(other_version))
    end)
  end

  it("with names of devices that cannot be", function()
    for _, name in ipairs { "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:9999", "cudas" } do
      local ok, message = pcall(moon.zeros, 2, { device = name })
      assert.is_false(ok)
      assert.is_truthy(message:find(name, 1, true), message)
    end
  end)

  it("with places that are none", function()
    assert.has_error(function() moon.cuda.look { plugins = "x" } end)
    assert.has_error(function() moon.cuda.look "x" end)
    assert.has_error(function() moon.cuda.look { plugin = ("x"):rep(2000) } end)
  end)
end)
