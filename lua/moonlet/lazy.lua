-- A namespace that finds its members by name: ns.Conv2d is what `<prefix>.conv2d` returns, required
-- when first asked for and kept. The file is the name in lower case; there is no list to extend.
--
-- A file that returns a class must be asked for by the class's own spelling; other files by their
-- lower-case name. A name that nothing answers to is an error that says where it was looked for.

local Class = require "moonlet.class"

-- require, but nil when the module itself is missing; other failures pass through.
local function find(name)
  local ok, result = pcall(require, name)
  if ok then return result end
  local missing = ("module '%s' not found"):format(name)
  if type(result) == "string" and result:find(missing, 1, true) then return nil end
  error(result, 0)
end

local function spelled_wrong(prefix, key, value)
  local name = Class.is_class(value) and value.class_name or key:lower()
  if name ~= key then
    error(('%s has no "%s"; did you mean "%s"?'):format(prefix, key, name), 4)
  end
end

-- A member of a file that holds several.
local function in_family(prefix, family, key)
  local members = require(prefix .. "." .. family)
  if rawget(members, key) ~= nil then return members[key] end
  for name in pairs(members) do
    if name:lower() == key:lower() then
      error(('%s has no "%s"; did you mean "%s"?'):format(prefix, key, name), 4)
    end
  end
end

local function look_up(prefix, given, key)
  for _, family in ipairs(given.families or {}) do
    local member = in_family(prefix, family, key)
    if member ~= nil then return member end
  end
  local alias = given.aliases and given.aliases[key]
  if alias then return require(prefix .. "." .. alias) end
  local value = find(prefix .. "." .. key:lower())
  if value ~= nil then
    spelled_wrong(prefix, key, value)
    return value
  end
  error(('%s has no "%s" (looked for %s/%s.lua)'):format(
    prefix, key, (prefix:gsub("%.", "/")), key:lower()), 3)
end

--- Makes a namespace.
-- @string prefix the module name before the member's
-- @tparam ?table given families: files that hold several members each, asked first;
-- aliases: member name to file name, where they differ
-- @usage local nn = require "moonlet.lazy"("moonlet.nn", { families = { "activations" } })
-- assert(nn.Linear.class_name == "Linear")
return function(prefix, given)
  return setmetatable({}, {
    __index = function(namespace, key)
      if type(key) ~= "string" or not key:match("^%a[%w_]*$") then return nil end
      local value = look_up(prefix, given or {}, key)
      rawset(namespace, key, value)
      return value
    end,
    __tostring = function() return "moonlet namespace " .. prefix end,
  })
end
