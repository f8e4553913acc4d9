-- The file of metrics: whole rows, also after a stop and a resume.
local Csv = require("moonlet").train.Csv

local path

local function text()
  local file = io.open(path)
  local all = file:read("*a")
  file:close()
  return all
end

describe("Csv", function()
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("writes a header and whole rows", function()
    local csv = Csv(path, { "epoch", "loss", "note" })
    csv:add { epoch = 1, loss = 0.5 }
    csv:add { epoch = 2, loss = 0.25, note = 'say "hi", then\tgo' }
    assert.equal('epoch,loss,note\n1,0.5,\n2,0.25,"say ""hi"", then\tgo"\n', text())
    local rows, columns = Csv.read(path)
    assert.same({ "epoch", "loss", "note" }, columns)
    assert.equal('say "hi", then\tgo', rows[2].note)
    assert.equal(0.5, rows[1].loss)
  end)

  it("goes on with a file and drops rows that will come again", function()
    local csv = Csv(path, { "epoch", "loss" })
    for epoch = 1, 4 do csv:add { epoch = epoch, loss = epoch / 10 } end
    Csv(path, { "epoch", "loss" }, function(row) return row.epoch <= 2 end)
      :add { epoch = 3, loss = 7 }
    local rows = Csv.read(path)
    assert.equal(3, #rows)
    assert.equal(7, rows[3].loss)
  end)

  it("starts afresh without a rule, or when the columns differ", function()
    Csv(path, { "a" }):add { a = 1 }
    Csv(path, { "a" })
    assert.equal("a\n", text())
    Csv(path, { "b" }, function() return true end)
    assert.equal("b\n", text())
  end)

  it("refuses columns that it does not have, and paths that cannot be", function()
    local csv = Csv(path, { "epoch", "loss" })
    local _, message = pcall(csv.add, csv, { epoc = 1 })
    assert.matches('did you mean "epoch"', message)
    _, message = pcall(Csv, "/no/such/folder/x.csv", { "a" })
    assert.matches("cannot write /no/such/folder/x.csv", message)
  end)
end)
