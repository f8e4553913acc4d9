-- The table of networks: its columns, and that a peer which fails is a sentence in its row.
local child = require "spec.support.child"

local function run(flags)
  local csv = os.tmpname()
  local pipe = io.popen(("%s bench/networks.lua --only mlp --rounds 1 --seconds 0 --threads 1 "
    .. "--csv %s %s 2>&1"):format(child.lua, csv, flags))
  local text = pipe:read "*a"
  pipe:close()
  local rows = {}
  for line in io.lines(csv) do rows[#rows + 1] = line end
  os.remove(csv)
  return text, rows
end

describe("the table of networks", function()
  it("has moonlet's columns alone without a peer", function()
    local _, rows = run "--pass forward,train"
    assert.equal("workload,batch,pass,dtype,threads,moonlet_ms,moonlet_rss_mib,peer,peer_ms,"
      .. "peer_rss_mib,peer_import_rss_mib,ratio", rows[1])
    assert.matches("^mlp,128,forward,float32,1,[%d.e-]+,%d+,,,,,$", rows[2])
    assert.matches("^mlp,128,train,float32,1,[%d.e-]+,%d+,,,,,$", rows[3])
    assert.equal(3, #rows)
  end)

  it("goes on when a peer fails, and says why", function()
    local text, rows = run "--pass forward --peers pytorch,openvino --peer /bin/false"
    assert.matches("mlp +128 forward +[%d.]+ ms", text)
    assert.matches("pytorch +ended with status 1", text)
    assert.matches("^mlp,128,forward,float32,1,[%d.e-]+,%d+,pytorch,,,,$", rows[2])
    assert.matches("^mlp,128,forward,float32,1,[%d.e-]+,%d+,openvino,,,,$", rows[3])
  end)

  it("refuses workloads that there are not", function()
    local pipe = io.popen(child.lua .. " bench/networks.lua --only nothing 2>&1; echo $?")
    local text = pipe:read "*a"
    pipe:close()
    assert.matches("there is no workload nothing; there are mlp, lenet", text)
    assert.matches("2\n$", text)
  end)
end)
