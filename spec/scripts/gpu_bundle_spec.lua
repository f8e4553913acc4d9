-- The bundle for GPU machines: packed, unpacked elsewhere, and run there with nothing of this
-- checkout and of the user's environment.
local sources = require "spec.support.sources"

local function run(command)
  local pipe = assert(io.popen(("( %s ) 2>&1; echo \"status $?\""):format(command)))
  local text = pipe:read "*a"
  pipe:close()
  local output, status = text:match "^(.*)status (%d+)\n$"
  return output, status == "0"
end

local function installed(...)
  for _, program in ipairs { ... } do
    if not select(2, run("command -v " .. program)) then return false end
  end
  return not os.getenv "MOONLET_BUILD" and jit ~= nil
end

describe("the bundle for GPU machines", function()
  if not installed("luajit", "busted", "tar", "ldd") then
    pending "needs luajit, busted, tar and ldd, and a build of its own"
    return
  end

  it("runs elsewhere, alone", function()
    local root = run(("cd '%s' && pwd"):format(sources.root)):match "^(.-)\n"
    local folder = os.tmpname()
    os.remove(folder)
    local output, well = run(([[
      mkdir -p '%s' && '%s/scripts/gpu-bundle' '%s/bundle.tar' && cd '%s' && tar -xf bundle.tar &&
      rm bundle.tar && mv moonlet-gpu elsewhere && cd / &&
      env -i PATH=/usr/bin:/bin '%s/elsewhere/run' cpu spec/ops/reduce_spec.lua spec/nn &&
      env -i PATH=/usr/bin:/bin '%s/elsewhere/run' info &&
      env -i PATH=/usr/bin:/bin '%s/elsewhere/run' lua -e '
        local moon = require "moonlet"
        assert(debug.getinfo(moon.nn.Linear.init, "S").source:find("elsewhere", 1, true))
        print("linear algebra " .. moon.det(moon.eye(3)):item())'
    ]]):format(folder, root, folder, folder, folder, folder, folder))
    run(("rm -rf '%s'"):format(folder))
    assert.is_true(well, output)
    assert.matches("%d+ passed, 0 failed", output)
    assert.matches("linear algebra 1", output)
  end)
end)
