-- luacheck's settings: the dialect common to 5.1, 5.4 and LuaJIT, and what is looked for before use:
-- jit, and unpack, which moved.
std = "min"
max_line_length = 100
read_globals = { "jit", "unpack", table = { fields = { "unpack" } } }
exclude_files = { "build", "build.luarocks", "moonlet.lua", "runs" }
ignore = { "212/self" }
files["spec"] = { std = "+busted" }
files["rockspec"] = { std = "+rockspec" }
files[".busted"] = { std = "+busted" }
