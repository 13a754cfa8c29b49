-- Lets itself be greeted, by a greeter in whatever language.
-- usage: lua5.4 greeter_client.lua [address]
local ipcio = require "ipcio"

local conn <close> = assert(ipcio.connect(arg[1] or "pipe://greeter", 10)) -- waits for the server
for _, name in ipairs { "world", "Zoë" } do
  print(assert(conn:call(name, 1))) -- write, then read, one deadline for both
end
