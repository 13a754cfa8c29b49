--- The second process of the tests: lua5.4 peer.lua ROLE ARGUMENTS...  It prints its number and "ready".

package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local support = require "support"

local function ready()
  io.write(("%d ready\n"):format(io.open("/proc/self/stat"):read("n")))
  io.flush()
end

local role, address, more = ...
local roles = {}

local function listen(options)
  local server = assert(ipcio.listen(address, options))
  ready()
  return server
end

-- Prints its address, too.
local function listen_and_tell()
  local server = listen()
  print(server:address())
  io.flush()
  return server
end

local kept = {}

-- A connection to itself: its peer never says anything.
local function quiet()
  local server = assert(ipcio.listen(address))
  local client = assert(ipcio.connect(address, 5))
  kept = {client, server, assert(server:accept(5))}
  return client, server
end

local function idle()
  error("the sleep function was not to be called")
end

-- ---------------------------------------------------------------------------------- serving

function roles.echo()
  local server = listen()
  server:serve(function(request)
    if request == "stop" then return server:stop() end
    return request
  end)
end

function roles.serve()
  local server = listen()
  local errors, released, asked = {}, false, setmetatable({}, {__mode = "k"})
  local commands = {
    nothing = function() end,
    boolean = function() return true end,
    count = function(conn)
      asked[conn] = (asked[conn] or 0) + 1
      return asked[conn]
    end,
    fail = function() error("it went wrong", 0) end,
    object = function() error({}) end,
    errors = function() return table.concat(errors, "\n") end,
    large = function() return ("x"):rep(5 << 20) end,
    wait = function()
      while not released do coroutine.yield() end
      return "waited"
    end,
    release = function()
      released = true
      return "released"
    end,
    two = function(conn)
      assert(conn:write("one"))
      return "two"
    end,
    hang_up = function(conn) conn:close() end,
    hang_up_late = function(conn)
      conn:close()
      return "never seen"
    end,
    stop = function() server:stop() end,
    close = function() server:close() end,
  }
  local function on_error(err, conn)
    errors[#errors + 1] = ("%s %s"):format(conn:address(), type(err) == "string" and err or type(err))
  end
  print("served", server:serve(function(request, conn)
    local command = commands[request]
    if command then return command(conn) end
    return "hello " .. request
  end, {on_error = on_error}))
  print("serving again", (select(3, server:accept(0))))
end

function roles.one_line()
  local real = ipcio.listen
  ipcio.listen = function(...)
    ipcio.listen = real
    local server = assert(real(...))
    ready()
    return server
  end
  local unspeakable = setmetatable({}, {__tostring = function() error("in __tostring") end})
  ipcio.serve(address, function(request) error(request == "object" and unspeakable or "it went wrong") end, {limit = 1000})
end

-- A thousand clients: see many_spec.lua.  `more` is how many there will be.
function roles.many()
  local before = support.descriptors()
  local server <close> = listen_and_tell()
  local all, here, released = tonumber(more), 0, false
  assert(server:serve(function(request)
    if request == "here" then
      here = here + 1
      while here < all do coroutine.yield() end
    elseif request == "slow" then
      while not released do coroutine.yield() end
    elseif request == "release" then
      released = true
    elseif request == "stop" then
      server:stop()
    end
    return request
  end))
  server:close()
  print(here, support.descriptors() == before)
end

-- `more` of its clients.
function roles.many_clients()
  ready()
  local conns, right = {}, 0
  local function ask(request)
    for i, conn in ipairs(conns) do assert(conn:write(request(i), 30)) end
    for i, conn in ipairs(conns) do
      if assert(conn:read(30)) == request(i) then right = right + 1 end
    end
  end
  for i = 1, tonumber(more) do conns[i] = assert(ipcio.connect(address, 30)) end
  ask(function() return "here" end)
  for round = 1, 5 do
    ask(function(i) return ("client %d, round %d"):format(i, round) end)
  end
  print(right)
end

-- ---------------------------------------------------------------------------------- event loops

-- Does to its first connection what is ordered on its second.
function roles.far_end()
  local server <close> = listen_and_tell()
  local conn <close> = assert(server:accept(30))
  local orders <close> = assert(server:accept(30))
  local obey = {
    two = function()
      assert(conn:write("one"))
      assert(conn:write("two"))
    end,
    half = function()
      assert(conn:write_start(10))
      assert(conn:write_buffer("01234"))
    end,
    rest = function()
      assert(conn:write_buffer("56789"))
      assert(conn:write_end())
    end,
    take = function(count)
      for _ = 1, tonumber(count) do assert(conn:read(30)) end
    end,
    connect = function(to) kept[#kept + 1] = assert(ipcio.connect(to, 30)) end,
    close = function() conn:close() end,
  }
  for order in orders:messages() do
    local what, with = order:match("^(%S+) ?(.*)")
    obey[what](with)
    assert(orders:write("done"))
  end
end

-- ---------------------------------------------------------------------------------- one client

function roles.client()
  ready()
  local conn <close> = assert(ipcio.connect(address, 30))
  assert(conn:write("from the client"))
  print(conn:read(30))
end

function roles.dying_client()
  local conn = assert(ipcio.connect(address, 30))
  assert(conn:write("wait"))
  ready()
  conn:read()
end

function roles.leave()
  local conn = assert(ipcio.connect(address, 30))
  assert(conn:write("last words"))
  ready()
  conn:read()
end

function roles.exit()
  quiet()
  assert(ipcio.InitConnection(ipcio.cNamedPipe, more))
  ready()
end

function roles.globals()
  local before = {}
  for name in pairs(_G) do before[name] = true end
  for name in pairs(package.loaded) do
    if name:find("^ipcio") then package.loaded[name] = nil end
  end
  local again = require "ipcio"
  ready()
  print(again.listen == ipcio.listen)
  for name in pairs(_G) do
    if not before[name] or name:find("swig") then print(name) end
  end
end

-- ---------------------------------------------------------------------------------- waiting for ever

function roles.accept()
  listen():accept()
end

function roles.read()
  local client = quiet()
  ready()
  client:read()
end

function roles.read_long()
  local client = quiet()
  ready()
  client:read(1e9)
end

function roles.messages()
  local client = quiet()
  ready()
  for _ in client:messages() do end
end

function roles.call()
  local client = quiet()
  ready()
  client:call("request")
end

function roles.write()
  local client = quiet()
  ready()
  while client:write(("x"):rep(100000)) do end
end

function roles.connect()
  ready()
  ipcio.connect(address)
end

function roles.serve_idle()
  listen():serve(idle)
end

function roles.serve_handler()
  local client, server = quiet()
  assert(client:write("request"))
  kept[4] = assert(ipcio.connect(address, 5))
  assert(kept[4]:write("request"))
  ready()
  server:serve(function(_, conn) conn:read() end)
end

function roles.coroutine()
  local client = quiet()
  ready()
  print(coroutine.resume(coroutine.create(function() return client:read() end)))
  for _ = 1, 1e9 do end
end

function roles.ReadData()
  local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, address))
  local client = assert(ipcio.OpenConnection(ipcio.cNamedPipe, address))
  assert(ipcio.StartConnection(server))
  ready()
  ipcio.ReadData(client)
end

function roles.ReadData_sleep()
  local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, address))
  local client = assert(ipcio.OpenConnection(ipcio.cNamedPipe, address, true, function() end))
  assert(ipcio.StartConnection(server))
  ready()
  ipcio.ReadData(client)
end

function roles.StartConnection()
  local server = assert(ipcio.InitConnection(ipcio.cNamedPipe, address))
  ready()
  ipcio.StartConnection(server)
end

function roles.OpenConnection()
  ready()
  ipcio.OpenConnection(ipcio.cNamedPipe, address)
end

-- ------------------------------------------------------------------------------------------- files

-- Answers one client.
function roles.files()
  local server <close> = listen({files = true})
  local conn <close> = assert(server:accept(30))
  local commands = {
    read = function(file) return file:read("a") end,
    append = function(file)
      assert(file:seek("end"))
      assert(file:write(" and back"))
      return "done"
    end,
    count = function() return select(2, support.descriptors():gsub("\n", "")) end,
    give = function()
      local file <close> = assert(io.tmpfile())
      assert(file:write("one\ntwo\n"))
      assert(file:seek("set"))
      assert(conn:send_file(file, "here"))
    end,
  }
  for request in conn:messages() do
    local file = commands[request] and conn:take_file()
    local answer = commands[request] and commands[request](file)
    if file then file:close() end
    if answer then assert(conn:write(answer)) end
  end
end

-- ---------------------------------------------------------------------------------- FIFOs, memory

function roles.fifo_writer()
  ready()
  local conn <close> = assert(ipcio.connect(address, 30))
  for i = 1, 1000 do assert(conn:write(tostring(i))) end
end

function roles.fifo_quiet_writer()
  local conn = assert(ipcio.connect(address, 30))
  assert(conn:write("last"))
  ready()
  ipcio.listen(address .. "-other"):accept()
end

function roles.fifo_reader()
  listen():accept()
end

function roles.memory_reader()
  local process, place, size = math.tointeger(address), math.tointeger(more), math.tointeger(arg[4])
  ready()
  print(ipcio.read_memory(process, place, size))
  print((select(3, ipcio.read_memory(process, 1, 1))))
  print((select(3, ipcio.read_memory(process, place, 1 << 26))))
end

function roles.memory()
  local memory = assert(ipcio.export_memory(("0123456789"):rep(100000)))
  ready()
  print(memory:address(), memory:size())
  io.flush()
  ipcio.listen("pipe://" .. support.name()):accept()
end

-- ---------------------------------------------------------------------------------- the AutoIt names

function roles.autoit_server()
  local fd = assert(ipcio.InitConnection(ipcio.cNamedPipe, address))
  ready()
  for _ = 1, tonumber(more) do
    assert(ipcio.StartConnection(fd))
    while true do
      local request, _, code = ipcio.ReadData(fd)
      if code == "closed" then break end
      assert(ipcio.WriteData(fd, "hello " .. request))
    end
    assert(ipcio.StopConnection(fd))
  end
  assert(ipcio.EndConnection(fd))
end

function roles.default_server()
  local fd = assert(ipcio.InitConnection())
  ready()
  assert(ipcio.StartConnection(fd))
  assert(ipcio.WriteData(fd, "hello " .. ipcio.ReadData(fd)))
  assert(ipcio.EndConnection(fd))
end

function roles.default_client()
  local fd = assert(ipcio.OpenConnection())
  ready()
  assert(ipcio.WriteData(fd, "world"))
  print(ipcio.ReadData(fd))
  assert(ipcio.CloseConnection(fd))
end

assert(roles[role], role)()
