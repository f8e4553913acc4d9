-- The rock: `luarocks make` at the top builds the module for the Lua that luarocks works for and
-- installs it with the Lua sources, and with the CUDA plug-in where there is nvcc. CMakeLists.txt
-- does the work. The headers and libraries it needs are listed, with reasons, in packages.txt.
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
-- luarocks' own way with CMake would use one processor.
build = {
  type = "command",
  build_command = "cmake -S . -B build.luarocks -DCMAKE_BUILD_TYPE=Release -DMOONLET_CUDA=AUTO" ..
    " '-DMOONLET_LUA_INCLUDE=$(LUA_INCDIR)'" ..
    " '-DMOONLET_INSTALL_LUADIR=$(LUADIR)' '-DMOONLET_INSTALL_LIBDIR=$(LIBDIR)'" ..
    " && cmake --build build.luarocks -j ${JOBS:-`getconf _NPROCESSORS_ONLN`}",
  install_command = "cmake --install build.luarocks",
}
