-- Greets every client, many at once, until Ctrl-C.
-- usage: lua5.4 serve.lua [address]
local ipcio = require "ipcio"

assert(ipcio.serve(arg[1] or "pipe://greeter", function(request) return "hello " .. request end))
