-- Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file.
--
-- Each part (model, optimiser, schedule, loader, ...) answers state_dict() with a flat table.
-- Tensors go into the file under "part.name", plain values into its metadata as "number 0.1",
-- "string text" or "boolean true", numbers with all their digits. The random stream is the tensor
-- "random_state".
-- The file is written atomically: a crash leaves the previous one.

local core = require "moonlet.core"

local M = {}

local FORMAT = "moonlet checkpoint 1"

local function encode(value, name)
  local kind = type(value)
  if kind == "number" then return ("number %.17g"):format(value) end
  if kind == "string" or kind == "boolean" then return kind .. " " .. tostring(value) end
  error(("checkpoint: %s is a %s; tensors, numbers, strings and booleans can be kept"):format(
    name, kind), 0)
end

local function to_number(text)
  local number = tonumber(text)
  if number then return number end
  if text:find("nan", 1, true) then return 0 / 0 end
  return text:sub(1, 1) == "-" and -math.huge or math.huge
end

local decoders = {
  number = to_number,
  string = function(text) return text end,
  boolean = function(text) return text == "true" end,
}

local function decode(text)
  local kind, rest = text:match("^(%a+) (.*)$")
  local decoder = decoders[kind]
  return decoder and decoder(rest)
end

local function add(name, dict, tensors, metadata)
  for key, value in pairs(dict) do
    local full = name .. "." .. key
    if core.is_tensor(value) then
      tensors[full] = value
    else
      metadata[full] = encode(value, full)
    end
  end
end

--- Writes a checkpoint.
-- @string path
-- @tparam table parts name to an object with state_dict()
-- @tparam ?table values plain values to keep beside them
-- @tparam ?tensor stream the random stream to keep; the present one unless given
-- @usage local moon = require "moonlet"
-- local net, path = moon.nn.Linear(2, 1), os.tmpname()
-- moon.train.checkpoint.save(path, { model = net }, { epoch = 3 })
-- assert(moon.train.checkpoint.load(path, { model = net }).epoch == 3)
-- os.remove(path)
function M.save(path, parts, values, stream)
  local tensors, metadata = {}, { format = FORMAT }
  for name, part in pairs(parts) do add(name, part:state_dict(), tensors, metadata) end
  add("run", values or {}, tensors, metadata)
  tensors.random_state = stream or core.get_rng_state()
  core.save(path, tensors, metadata)
end

local function open(path)
  local tensors, metadata = core.load(path)
  if not metadata or metadata.format ~= FORMAT then
    error(("%s: this is no checkpoint (format %s; expected %s)"):format(
      path, tostring(metadata and metadata.format), FORMAT), 0)
  end
  return tensors, metadata
end

local function part_of(name, tensors, metadata)
  local dict, prefix = {}, name .. "."
  for key, tensor in pairs(tensors) do
    if key:sub(1, #prefix) == prefix then dict[key:sub(#prefix + 1)] = tensor end
  end
  for key, text in pairs(metadata) do
    if key:sub(1, #prefix) == prefix then dict[key:sub(#prefix + 1)] = decode(text) end
  end
  return dict
end

--- The plain values of a checkpoint, without touching anything else.
-- @string path
function M.values(path)
  return part_of("run", open(path))
end

--- Puts every part and the random stream where the checkpoint left them.
-- @string path
-- @tparam table parts name to an object with load_state_dict(dict)
-- @treturn table the plain values
function M.load(path, parts)
  local tensors, metadata = open(path)
  for name, part in pairs(parts) do
    local dict = part_of(name, tensors, metadata)
    if next(dict) == nil then
      error(("%s: the checkpoint holds no %s"):format(path, name), 0)
    end
    part:load_state_dict(dict)
  end
  core.set_rng_state(tensors.random_state)
  return part_of("run", tensors, metadata)
end

return M
