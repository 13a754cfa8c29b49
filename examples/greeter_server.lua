-- Greets one client. serve.lua greets them all.
-- usage: lua5.4 greeter_server.lua [address]
local ipcio = require "ipcio"

local server <close> = assert(ipcio.listen(arg[1] or "pipe://greeter"))
print("waiting at " .. server:address())
local conn <close> = assert(server:accept(60))
for request in conn:messages() do -- ends when the client has closed
  assert(conn:write("hello " .. request))
end
