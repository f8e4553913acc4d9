-- The rock: `luarocks make` at the top builds the module for the Lua that luarocks works for and
-- installs it with the Lua sources. CMakeLists.txt does the work. The headers and libraries it
-- needs are listed, with reasons, in packages.txt.
rockspec_format = "3.0"
package = "moonlet"
version = "scm-1"
source = { url = "file://." }   -- luarocks make builds the checkout it is run in
description = {
  summary = "A deep-learning engine small enough to live inside another program",
  detailed = "Tensors, automatic differentiation and neural networks: a C core, used from Lua.",
  license = "MIT",
}
supported_platforms = { "unix" }
dependencies = { "lua >= 5.1, < 5.5" }
external_dependencies = {
  ZLIB = { header = "zlib.h" },
  JANSSON = { header = "jansson.h" },
  STB = { header = "stb/stb_image.h" },
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    MOONLET_LUA_INCLUDE = "$(LUA_INCDIR)",
    MOONLET_INSTALL_LUADIR = "$(LUADIR)",
    MOONLET_INSTALL_LIBDIR = "$(LIBDIR)",
  },
}
