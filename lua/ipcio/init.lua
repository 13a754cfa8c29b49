--- ipcio: scripts on one machine exchange data and take turns.
--
-- What can go wrong at run time is answered as nil, a message and a code ("timeout", "closed", ...); arguments
-- of the wrong type raise.  A timeout is in seconds and may be a fraction: nil waits for ever, 0 tries once.

local core = require "ipcio.core"
local serve = require "ipcio.serve"

---@class ipcio
local ipcio = {}

--- The version of the library, such as "0.1.0".
ipcio.VERSION = core.VERSION ---@type string

--- The schemes this build can listen at and connect to, such as {"pipe"}.
---@type fun(): string[]
ipcio.transports = core.transports

--- Copies n bytes of the memory of another process of this user; nil, or all of it.
---@type fun(pid: integer, address: integer, n: integer): string?, string?, string?
ipcio.read_memory = core.read_memory

--- Makes memory that other processes of this user can read: a copy of a string, or so many zero bytes.  They may then
--- read all other memory of this process too.
---@type fun(data: string|integer): ipcio.Memory?, string?, string?
ipcio.export_memory = core.export_memory

---@class ipcio.Memory: userdata it stays where it is until it is collected
---@field pid fun(self: ipcio.Memory): integer what the reader needs: the number of this process,
---@field address fun(self: ipcio.Memory): integer where the memory is,
---@field size fun(self: ipcio.Memory): integer and how long
---@field read fun(self: ipcio.Memory, offset?: integer, n?: integer): string?, string?, string? a part, by default all
---@field write fun(self: ipcio.Memory, offset: integer, data: string): true?, string?, string?

---@alias ipcio.Options table<string, string|number|boolean> options of an address, such as {limit = 1000}

local function escape(text)
  return (text:gsub("[^%w%-._~]", function(char) return ("%%%02X"):format(char:byte()) end))
end

local option_text = {
  string = function(value) return value end,
  boolean = function(value) return value and "1" or "0" end,
  number = function(value) return tostring(math.tointeger(value) or value) end,
}

-- The options as an address has them: "limit=1000&buffer=4096".
local function encode(options)
  local list = {}
  for name, value in pairs(options) do
    local text = option_text[type(value)]
    if type(name) ~= "string" then error("options need names, such as {limit = 1000}", 0) end
    if not text then
      error(("option '%s' is a %s; a string, number or boolean is needed"):format(name, type(value)), 0)
    end
    list[#list + 1] = escape(name) .. "=" .. escape(text(value))
  end
  return table.concat(list, "&")
end

local function check(value, kind, argument, name)
  if type(value) ~= kind then
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(argument, name, kind, type(value)), 3)
  end
end

--- Takes the name and begins to listen.
---@param address string such as "pipe://greeter"
---@param options? ipcio.Options
---@return ipcio.Server? server
---@return string? message
---@return string? code
function ipcio.listen(address, options)
  check(address, "string", 1, "listen")
  if options ~= nil then check(options, "table", 2, "listen") end
  return core.listen(address, options and encode(options))
end

--- Connects, waiting for the server to appear if need be.
---@param address string
---@param timeout? number
---@param options? ipcio.Options may also be the second argument
---@return ipcio.Connection? conn
---@return string? message
---@return string? code
function ipcio.connect(address, timeout, options)
  check(address, "string", 1, "connect")
  if type(timeout) == "table" and options == nil then timeout, options = nil, timeout end
  if not tonumber(timeout) and timeout ~= nil then check(timeout, "number", 2, "connect") end
  if options ~= nil then check(options, "table", 3, "connect") end
  return core.connect(address, options and encode(options), timeout)
end

local function check_on_error(options)
  local kind = type(options.on_error)
  if kind ~= "function" and kind ~= "nil" then error(("on_error is a %s; a function is needed"):format(kind), 3) end
end

---@alias ipcio.Handler fun(request: string, conn: ipcio.Connection): string?

--- Listens at the address and answers every client with handler(request, conn), until the handler closes or
--- stops the server.  Handlers run one at a time; one that has to wait yields and the others go on.  A handler
--- answers a string, or nil for no answer.  Its error closes that client and goes to on_error(err, conn).
---@param address string
---@param handler ipcio.Handler
---@param options? ipcio.Options | {on_error?: fun(err: any, conn: ipcio.Connection)} without on_error errors are lines on the standard error
---@return true? ok
---@return string? message
---@return string? code
function ipcio.serve(address, handler, options)
  check(address, "string", 1, "serve")
  check(handler, "function", 2, "serve")
  local listening = {}
  if options ~= nil then
    check(options, "table", 3, "serve")
    for name, value in pairs(options) do listening[name] = value end
    check_on_error(options)
    listening.on_error = nil
  end
  local server <close>, message, code = ipcio.listen(address, listening)
  if not server then return nil, message, code end
  return serve.run(server, handler, options)
end

---@class ipcio.Server: userdata
---@field accept fun(self: ipcio.Server, timeout?: number): ipcio.Connection?, string?, string? waits for the next client
---@field address fun(self: ipcio.Server): string the address, with what the system chose filled in
---@field fileno fun(self: ipcio.Server): integer?, string?, string? a descriptor that is readable while a client waits
---@field stop fun(self: ipcio.Server): true ends the running serve, or the next one, when what it has begun is answered; the name and the queue of clients stay
---@field close fun(self: ipcio.Server): true gives the name back and ends a running serve at once; accepted connections go on; may be repeated
local Server = core.Server

--- Answers every client: see ipcio.serve.
---@param handler ipcio.Handler
---@param options? {on_error?: fun(err: any, conn: ipcio.Connection)}
---@return true? ok
---@return string? message
---@return string? code
function Server:serve(handler, options)
  serve.check_self(self, Server, "serve")
  check(handler, "function", 1, "serve")
  if options ~= nil then
    check(options, "table", 2, "serve")
    check_on_error(options)
    for name in pairs(options) do
      if name ~= "on_error" then error(("no option '%s' here; there is: on_error"):format(name), 2) end
    end
  end
  return serve.run(self, handler, options)
end

---@class ipcio.Peer
---@field pid integer the number of its process; -1 where the system cannot tell, as the others
---@field uid integer
---@field gid integer

---@class ipcio.Connection: userdata
---@field read fun(self: ipcio.Connection, timeout?: number): string?, string?, string? waits for the next message
---@field write fun(self: ipcio.Connection, data: string, timeout?: number): true?, string?, string? sends one message
---@field call fun(self: ipcio.Connection, data: string, timeout?: number): string?, string?, string? write, then read, one deadline for both
---@field send_file fun(self: ipcio.Connection, file: file*|integer, data?: string, timeout?: number): true?, string?, string? passes an open file with a message; it stays open here
---@field take_file fun(self: ipcio.Connection, mode?: string): file*?, string?, string? the file that came with the message read last, until the next reading call
---@field read_start fun(self: ipcio.Connection, timeout?: number): integer?, string?, string? the length of the next message
---@field read_buffer fun(self: ipcio.Connection, n: integer, timeout?: number): string?, string?, string? its next piece, "" at the end
---@field read_end fun(self: ipcio.Connection, timeout?: number): true?, string?, string? drops what was not read
---@field write_start fun(self: ipcio.Connection, length: integer, timeout?: number): true?, string?, string? begins a message
---@field write_buffer fun(self: ipcio.Connection, piece: string, timeout?: number): true?, string?, string? its next piece
---@field write_end fun(self: ipcio.Connection, timeout?: number): true?, string?, string? the peer sees it now
---@field peer fun(self: ipcio.Connection): ipcio.Peer?, string?, string? who is at the other end
---@field sender fun(self: ipcio.Connection): string?, string?, string? who wrote what was read last (udp)
---@field address fun(self: ipcio.Connection): string
---@field fileno fun(self: ipcio.Connection): integer?, string?, string? a descriptor that is readable while read would not wait
---@field write_fileno fun(self: ipcio.Connection): integer?, string?, string? one that is writable while write would not wait
---@field close fun(self: ipcio.Connection): true ends the connection; may be repeated
local Connection = core.Connection

local function next_message(conn)
  local message, reason, code = conn:read()
  if message or code == "closed" then return message end
  error(reason, 2)
end

--- For a `for` loop: the messages until the peer has closed.  Any other error is raised.
---@return fun(conn: ipcio.Connection): string?
---@return ipcio.Connection
function Connection:messages()
  serve.check_self(self, Connection, "messages")
  return next_message, self
end

for name, value in pairs(require "ipcio.autoit") do ipcio[name] = value end

return ipcio
