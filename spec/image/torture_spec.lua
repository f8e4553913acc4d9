-- Hard pictures: PngSuite, odd JPEGs and the BMP suite decode to the pixels other decoders see.
-- (spec/c/image_test.c reads the damaged ones too.) Pixels are compared by the MD5 of their bytes
-- as R, G, B, A; JPEGs, where decoders differ by rounding, by their mean difference.
require "moonlet"
local core = require "moonlet.core"

local folder = "../shared/data/image-torture/"

-- What stb_image does not read; each must be refused.
local beyond_stb = {
  ["bmp/hopper_rle8_grayscale.bmp"] = true, ["bmp/pal4rle.bmp"] = true, ["bmp/pal8rle.bmp"] = true,
  ["bmp/rgb16-565pal.bmp"] = true, ["bmp/rgb24pal.bmp"] = true,
  ["jpeg/partial_progressive.jpg"] = true,
}

-- Right, but not to the last bit: samples of 5 and 6 bits are widened by repeating their bits; a
-- picture of 2 x 2 chroma samples is nearly all interpolation, which the other decoder leaves out.
local approximate = {
  ["bmp/rgb16-565.bmp"] = true, ["bmp/rgb16.bmp"] = true, ["jpeg/jpg-size-4x4.jpg"] = true,
}

local function rows()
  local list = {}
  for line in io.lines(folder .. "expected.csv") do
    local file, expect, width, height, bits, md5, reference =
      line:match("^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),")
    if expect == "ok" and (file:match("^png") or file:match("^jpeg/") or file:match("^bmp/")) then
      list[#list + 1] = { file = file, width = tonumber(width), height = tonumber(height),
        bits = tonumber(bits), md5 = md5, reference = reference }
    end
  end
  return list
end

-- The MD5 of each string in a list.
local function md5_of(strings)
  local place, digests = os.tmpname(), {}
  for i, bytes in ipairs(strings) do
    local file = assert(io.open(("%s.%04d"):format(place, i), "wb"))
    file:write(bytes)
    file:close()
  end
  local pipe = assert(io.popen("md5sum " .. place .. ".* && rm " .. place .. ".* " .. place))
  for line in pipe:lines() do digests[#digests + 1] = line:match("^%x+") end
  pipe:close()
  return digests
end

local function interleaved(file)
  return core.image_load(folder .. file, { channels = 4 }):permute(2, 3, 1):contiguous():tobytes()
end

describe("torture images", function()
  if not io.open(folder .. "expected.csv", "rb") then
    pending("no " .. folder .. " here")
    return
  end

  it("that stb does not read are refused", function()
    for file in pairs(beyond_stb) do
      local ok, message = pcall(core.image_load, folder .. file)
      assert.is_false(ok)
      assert.is_truthy(message:find(file, 1, true), message)
    end
  end)

  it("have the size they should have", function()
    for _, row in ipairs(rows()) do
      if not beyond_stb[row.file] then
        local shape = core.image_load(folder .. row.file).shape
        assert.same({ row.height, row.width }, { shape[2], shape[3] }, row.file)
      end
    end
  end)

  it("have the pixels they should have", function()
    local list, pixels = {}, {}
    for _, row in ipairs(rows()) do
      if row.md5 ~= "" and row.bits <= 8 and not approximate[row.file]
        and not beyond_stb[row.file] then
        list[#list + 1] = row
        pixels[#pixels + 1] = interleaved(row.file)
      end
    end
    assert.is_true(#list > 60)
    local wrong = {}
    for i, digest in ipairs(md5_of(pixels)) do
      if digest ~= list[i].md5 then wrong[#wrong + 1] = list[i].file end
    end
    assert.same({}, wrong)
  end)

  it("that are JPEGs differ from another decoder's view by rounding only", function()
    local compared = 0
    for _, row in ipairs(rows()) do
      if row.reference ~= "" and not beyond_stb[row.file] and not approximate[row.file] then
        local ours = core.image_load(folder .. row.file, { channels = 3 }):float()
        local other = core.image_load(folder .. row.reference, { channels = 3 }):float()
        local difference = ours:sub(other):abs():mean():item()
        assert(difference < 3, row.file .. " differs by " .. difference)
        compared = compared + 1
      end
    end
    assert.is_true(compared >= 11)
  end)
end)
