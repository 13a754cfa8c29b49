-- The Lua module, from a checkout: luarocks --lua-version 5.4 make rockspec/ipcio-0.1.0-1.rockspec
rockspec_format = "3.0"
package = "ipcio"
version = "0.1.0-1"
source = { url = "." } -- what `make` builds
description = {
  summary = "Scripts on one machine exchange data and take turns",
  detailed = "One small API, the same from Lua, Python and C.",
  license = "MIT",
  labels = { "ipc", "linux" },
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.4, < 5.5" }
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    IPCIO_C = "OFF",
    IPCIO_PYTHON = "OFF",
    IPCIO_LUA_DIR = "$(LUADIR)",
    IPCIO_LUA_CDIR = "$(LIBDIR)",
    LUA_INCLUDE_DIR = "$(LUA_INCDIR)",
  },
}
test = { type = "command", command = "./run test --quick lua" }
