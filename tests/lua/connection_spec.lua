--- Servers and connections as objects.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local socket = require "socket"
local support = require "support"

local fails = support.fails

-- A server, a client, and the server's end of it.
local function pair(options)
  local address = support.address()
  local server = assert(ipcio.listen(address, options))
  local client = assert(ipcio.connect(address, 5))
  return server, client, assert(server:accept(5))
end

local function close(...)
  for _, handle in ipairs {...} do handle:close() end
end

local function readable(fd)
  return #socket.select({{getfd = function() return fd end}}, nil, 0) == 1
end

local function writable(fd)
  return #select(2, socket.select(nil, {{getfd = function() return fd end}}, 0)) == 1
end

describe("a connection", function()
  support.watch_descriptors(before_each, after_each)

  describe("in one process", function()
    local server, client, conn
    before_each(function() server, client, conn = pair() end)
    after_each(function() close(server, client, conn) end)

    it("carries messages both ways, in order", function()
      assert.is_true(client:write("one"))
      assert.is_true(client:write("two", 1))
      assert.equal("one", conn:read())
      assert.is_true(conn:write("three"))
      assert.equal("two", conn:read(1))
      assert.equal("three", client:read(nil))
    end)

    it("carries every byte, and empty messages", function()
      local all = {}
      for byte = 0, 255 do all[#all + 1] = string.char(byte) end
      for _, message in ipairs {"", "\0", "a\0b", table.concat(all), ""} do
        assert(client:write(message))
        assert.equal(message, conn:read(1))
      end
    end)

    it("takes numbers for text, as Lua does", function()
      assert(client:write(12))
      assert.equal("12", conn:read(1))
    end)

    it("says what did not come, and in what time", function()
      local message = fails("timeout", client:read(0.05))
      assert.matches(client:address(), message, 1, true)
      assert.matches("0.05 s", message, 1, true)
      fails("timeout", server:accept(0.01))
      fails("timeout", client:call("x", 0.01))
    end)

    it("does not wait with a timeout of 0", function()
      local from = socket.gettime()
      for _ = 1, 1000 do fails("timeout", client:read(0)) end
      assert.is_true(socket.gettime() - from < 5)
      assert(conn:write("here"))
      assert.equal("here", client:read(0))
    end)

    it("takes no timeout that is none", function()
      for _, timeout in ipairs {-1, -0.001, 0 / 0, -math.huge} do
        fails("invalid", client:read(timeout))
        fails("invalid", client:write("x", timeout))
        fails("invalid", client:call("x", timeout))
        fails("invalid", server:accept(timeout))
        fails("invalid", ipcio.connect(server:address(), timeout))
      end
      for _, timeout in ipairs {"soon", {}, true, print} do
        assert.has_error(function() client:read(timeout) end)
        assert.error_matches(function() ipcio.connect(server:address(), timeout, {}) end, "bad argument #2 to 'connect'")
      end
      assert(conn:write("x"))
      assert.equal("x", client:read(math.huge))
    end)

    it("takes no data that is none", function()
      for _, data in ipairs {{}, true, print} do
        assert.has_error(function() client:write(data) end)
        assert.has_error(function() client:call(data) end)
      end
      assert.has_error(function() client:write() end)
    end)

    it("delivers what the peer sent before it closed", function()
      assert(client:write("last"))
      client:close()
      assert.equal("last", conn:read(1))
      local message = fails("closed", conn:read(1))
      assert.matches(conn:address(), message, 1, true)
      fails("closed", conn:read())
    end)

    it("is invalid once this side has closed it", function()
      assert.is_true(client:close())
      client:close()
      fails("invalid", client:read(1))
      fails("invalid", client:write("x"))
      fails("invalid", client:call("x", 1))
      fails("invalid", client:peer())
      fails("invalid", client:fileno())
      fails("invalid", client:write_fileno())
      fails("invalid", client:read_start(1))
      fails("invalid", client:write_start(1))
      assert.is_string(client:address())
      server:close()
      server:close()
      fails("invalid", server:accept(1))
      fails("invalid", server:fileno())
      fails("invalid", server:serve(function() end))
      assert(conn:address())
    end)

    it("outlives its server", function()
      server:close()
      assert(client:write("still"))
      assert.equal("still", conn:read(1))
      fails("missing", ipcio.connect(server:address(), 0))
    end)

    it("is iterated until the peer closes", function()
      for _, message in ipairs {"a", "", "c"} do assert(client:write(message)) end
      client:close()
      local got = {}
      for message in conn:messages() do got[#got + 1] = message end
      assert.same({"a", "", "c"}, got)
    end)

    it("raises from an iteration what is no end", function()
      conn:close()
      assert.error_matches(function()
        for _ in conn:messages() do end
      end, "closed")
    end)

    it("drops the late answer of a call that timed out", function()
      fails("timeout", client:call("slow", 0.01))
      assert.equal("slow", conn:read(1))
      assert(conn:write("late"))
      assert(conn:write("news"))
      assert.equal("news", client:read(1))
    end)

    it("stays usable when a write times out", function()
      local sent, code = 0
      repeat
        local ok
        ok, _, code = client:write(("x"):rep(60000), 0)
        if ok then sent = sent + 1 end
      until not ok
      assert.equal("timeout", code)
      assert.is_true(sent > 0)
      for _ = 1, sent do assert.equal(60000, #conn:read(1)) end
      assert(client:write("after"))
      assert.equal("after", conn:read(1))
    end)

    it("knows its peer and its address", function()
      local peer = assert(client:peer())
      local status = io.open("/proc/self/status"):read("a")
      assert.equal(tonumber(status:match("\nPid:%s*(%d+)")), peer.pid)
      assert.equal(tonumber(status:match("\nUid:%s*(%d+)")), peer.uid)
      assert.equal(tonumber(status:match("\nGid:%s*(%d+)")), peer.gid)
      assert.equal(server:address(), client:address())
      assert.equal(server:address(), conn:address())
      assert.equal("ipcio.Connection: " .. server:address(), tostring(client))
      assert.equal("ipcio.Server: " .. server:address(), tostring(server))
    end)

    it("keeps no shared memory once it is closed", function()
      local function mapped()
        local maps <close> = assert(io.open("/proc/self/maps"))
        return select(2, maps:read("a"):gsub("/memfd:ipcio", ""))
      end
      collectgarbage()
      collectgarbage()
      local before = mapped()
      local address = "shm://" .. support.name()
      local listening <close> = assert(ipcio.listen(address))
      local writer = assert(ipcio.connect(address, 5))
      local reader = assert(listening:accept(5))
      assert(writer:write("one"))
      assert.equal("one", reader:read(5))
      assert.is_true(mapped() > before)
      close(writer, reader)
      assert.equal(before, mapped())
      fails("invalid", reader:read(0))
    end)

    it("has descriptors that tell when to read and to write", function()
      local reading, writing, accepting = conn:fileno(), conn:write_fileno(), server:fileno()
      fails("timeout", conn:read(0)) -- takes in the greeting that each side sends first
      assert.is_false(readable(reading))
      assert.is_true(writable(writing))
      assert.is_false(readable(accepting))
      assert(client:write("one"))
      assert(client:write("two"))
      assert.is_true(readable(reading))
      assert.is_true(readable(reading))
      assert.equal("one", conn:read(0))
      assert.is_true(readable(reading))
      assert.equal("two", conn:read(0))
      assert.is_false(readable(reading))
      client:close()
      assert.is_true(readable(reading))
      local another = assert(ipcio.connect(server:address(), 1))
      assert.is_true(readable(accepting))
      close(another)
    end)

    describe("in pieces", function()
      it("is read", function()
        assert(client:write("0123456789"))
        assert(client:write("next"))
        assert.equal(10, conn:read_start(1))
        assert.equal("0123", conn:read_buffer(4))
        assert.equal("456789", conn:read_buffer(100, 1))
        assert.equal("", conn:read_buffer(4))
        assert.is_true(conn:read_end())
        assert.equal("next", conn:read(1))
      end)

      it("is dropped where it was not read", function()
        assert(client:write("0123456789"))
        assert(client:write("next"))
        assert(conn:read_start())
        assert(conn:read_end())
        assert.equal("next", conn:read(1))
      end)

      it("is written", function()
        assert.is_true(client:write_start(5, 1))
        assert.is_true(client:write_buffer("01"))
        fails("timeout", conn:read(0))
        assert(client:write_buffer("\0"))
        assert(client:write_buffer("34", 1))
        assert.is_true(client:write_end())
        assert.equal("01\00034", conn:read(1))
      end)

      it("can be long", function()
        local long = ("x"):rep(1 << 20)
        assert(client:write_start(#long))
        local sent, got, started = 0, 0, false
        while got < #long do
          if sent < #long then
            assert(client:write_buffer(long:sub(sent + 1, sent + 30000)))
            sent = math.min(sent + 30000, #long)
          end
          started = started or conn:read_start(1)
          local piece = conn:read_buffer(50000, 1)
          got = got + #piece
        end
        assert(client:write_end())
        assert.equal("", conn:read_buffer(1, 1))
        assert(conn:read_end())
      end)

      it("has an order", function()
        fails("invalid", conn:read_buffer(4))
        fails("invalid", conn:read_end())
        fails("invalid", client:write_buffer("x"))
        fails("invalid", client:write_end())
        assert(client:write_start(3))
        fails("invalid", client:write("whole"))
        fails("invalid", client:write_start(3))
        fails("invalid", client:write_buffer("too long"))
        fails("invalid", client:write_end()) -- too early: the message is given up
        assert(client:write("whole"))
        assert(client:write("second"))
        assert.equal(5, conn:read_start(1))
        fails("invalid", conn:read(1))
        fails("invalid", conn:call("x", 1))
        fails("invalid", conn:read_start(1))
        assert.equal("whole", conn:read_buffer(5))
        assert(conn:read_end())
        assert.equal("second", conn:read(1))
      end)

      it("takes no length that is none", function()
        assert(client:write("x"))
        assert(conn:read_start(1))
        fails("invalid", conn:read_buffer(0))
        fails("invalid", conn:read_buffer(-1))
        fails("invalid", client:write_start(-1))
        for _, n in ipairs {"many", {}, 1.5} do
          assert.has_error(function() conn:read_buffer(n) end)
          assert.has_error(function() client:write_start(n) end)
        end
        assert.equal("x", conn:read_buffer(math.maxinteger))
        fails("toobig", client:write_start(math.maxinteger))
      end)
    end)
  end)

  describe("ends", function()
    it("with its block", function()
      local server <close> = assert(ipcio.listen(support.address()))
      local conn
      do
        local client <close> = assert(ipcio.connect(server:address(), 5))
        conn = assert(server:accept(5))
        assert(client:write("x"))
      end
      assert.equal("x", conn:read(1))
      fails("closed", conn:read(1))
      conn:close()
    end)

    it("with its last reference", function()
      local server, conn
      do
        local client
        server, client, conn = pair()
        assert(client)
      end
      collectgarbage()
      collectgarbage()
      fails("closed", conn:read(5))
      local address = server:address()
      server = nil
      collectgarbage()
      collectgarbage()
      fails("missing", ipcio.connect(address, 0))
      assert(ipcio.listen(address)):close()
      conn:close()
    end)
  end)

  describe("has a limit", function()
    it("that is told before anything is sent", function()
      local server, client, conn = pair()
      close(client, conn)
      client = assert(ipcio.connect(server:address(), 5, {limit = 1000}))
      conn = assert(server:accept(5))
      local message = fails("toobig", client:write(("x"):rep(1001)))
      assert.matches("1001", message, 1, true)
      assert.matches("1000", message, 1, true)
      assert(client:write(("x"):rep(1000)))
      assert.equal(1000, #conn:read(1))
      close(server, client, conn)
    end)

    it("of the peer as well", function()
      local server, client, conn = pair({limit = 1000})
      fails("toobig", client:write(("x"):rep(1001))) -- its very first message
      fails("toobig", client:call(("x"):rep(1001), 1))
      assert(client:write("small"))
      assert.equal("small", conn:read(1))
      close(server, client, conn)
    end)
  end)

  describe("with a second process", function()
    it("answers calls of any size", function()
      local address = support.address()
      local peer = support.start("echo", address)
      local conn <close> = assert(ipcio.connect(address, 5))
      for _, size in ipairs {0, 1, 64, 65535, 65536, 1 << 20, 5 << 20} do
        local message = ("0123456789abcdef"):rep(size // 16 + 1):sub(1, size)
        local answer = assert(conn:call(message, 30))
        assert.is_true(answer == message)
      end
      assert(conn:write("stop"))
      assert(peer:close())
    end)

    it("waits for a server that starts later", function()
      local address = support.address()
      local peer = support.start("client", address)
      local server <close> = assert(ipcio.listen(address))
      local conn <close> = assert(server:accept(10))
      assert.equal("from the client", conn:read(10))
      assert(conn:write("well met"))
      assert.equal("well met", peer:read("l"))
      peer:close()
    end)

    it("finds a live server's name taken", function()
      local address = support.address()
      local peer = support.start("echo", address)
      local message = fails("exists", ipcio.listen(address))
      assert.matches(address, message, 1, true)
      local conn <close> = assert(ipcio.connect(address, 5))
      assert.equal("still there", conn:call("still there", 5))
      assert(conn:write("stop"))
      peer:close()
    end)

    it("learns of the peer's death, and takes its name over", function()
      local address = support.address()
      local peer, process = support.start("echo", address)
      local conn <close> = assert(ipcio.connect(address, 5))
      assert.equal("x", conn:call("x", 5))
      assert.equal(process, conn:peer().pid)
      support.kill("KILL", process)
      fails("closed", conn:read(5))
      peer:close()
      local server <close> = assert(ipcio.listen(address))
      local client <close> = assert(ipcio.connect(address, 5))
      assert(server:accept(5)):close()
      fails("closed", client:read(5))
    end)

    it("gets what a killed peer had sent", function()
      local server <close> = assert(ipcio.listen(support.address()))
      local peer, process = support.start("leave", server:address())
      support.kill("KILL", process)
      local conn <close> = assert(server:accept(5))
      assert.equal("last words", conn:read(5))
      fails("closed", conn:read(5))
      peer:close()
    end)
  end)
end)

describe("an address", function()
  support.watch_descriptors(before_each, after_each)

  local function refused(code, address, options)
    local message = fails(code, ipcio.listen(address, options))
    fails(code, ipcio.connect(address, 0, options))
    return message
  end

  it("must be well formed", function()
    for _, address in ipairs {"", "greeter", "pipe:", "pipe:/", "pipe://", "://x", "pipe://?limit=5", "pipe://%zz"} do
      assert.is_true(#refused("invalid", address) > 0)
    end
    refused("invalid", "pigeon://x")
    refused("unsupported", [[\\HOST\pipe\x]])
  end)

  it("holds no NUL", function()
    local name = support.address()
    assert.matches("NUL", refused("invalid", name .. "\0tail"), 1, true)
    refused("invalid", name .. "%00tail")
  end)

  it("has a name of at most 255 bytes", function()
    local name = support.name()
    refused("invalid", "pipe://" .. name .. ("x"):rep(256 - #name))
    local server <close> = assert(ipcio.listen("pipe://" .. name .. ("x"):rep(255 - #name)))
    local client <close> = assert(ipcio.connect(server:address(), 5))
    assert(client:write("x"))
  end)

  it("can be spelled as on Windows", function()
    local name = support.name()
    local server <close> = assert(ipcio.listen("pipe://" .. name .. "/Box 1"))
    local client <close> = assert(ipcio.connect([[\\.\pipe\]] .. name .. [[\Box 1]], 5))
    local conn <close> = assert(server:accept(5))
    assert(client:write("x"))
    assert.equal("x", conn:read(1))
  end)

  it("holds options, and so does a table", function()
    local server <close> = assert(ipcio.listen(support.address() .. "?limit=1000&buffer=4096"))
    local address = server:address()
    for _, options in ipairs {{limit = 100}, {limit = 100.0}, {limit = "100", buffer = 2048}} do
      local client <close> = assert(ipcio.connect(address, options))
      fails("toobig", client:write(("x"):rep(101)))
      assert(client:write(("x"):rep(100)))
    end
    local client <close> = assert(ipcio.connect(address .. "?limit=50", 5, {limit = 100}))
    fails("toobig", client:write(("x"):rep(51)))
  end)

  it("has no other options", function()
    local address = support.address()
    refused("invalid", address, {limits = 5})
    refused("invalid", address, {limit = 0})
    refused("invalid", address, {limit = 1 << 40})
    refused("invalid", address, {limit = "many"})
    refused("invalid", address, {limit = ""})
    refused("invalid", address, {limit = "5&buffer=4096"})
    refused("invalid", address, {limit = "5\0"})
    refused("invalid", address .. "?limit=-1")
    refused("invalid", address .. "?limit")
    for _, options in ipairs {{limit = {}}, {5}, {limit = print}} do
      assert.has_error(function() ipcio.listen(address, options) end)
    end
    for _, options in ipairs {"limit=5", 5, true} do
      assert.has_error(function() ipcio.listen(address, options) end)
      assert.has_error(function() ipcio.connect(address, 0, options) end)
    end
  end)

  it("is text", function()
    for _, address in ipairs {{}, true, print} do
      assert.has_error(function() ipcio.listen(address) end)
      assert.has_error(function() ipcio.connect(address) end)
    end
    assert.has_error(function() ipcio.listen() end)
    assert.has_error(function() ipcio.connect() end)
  end)
end)

describe("the module", function()
  it("tells its version and transports", function()
    assert.matches("^%d+%.%d+%.%d+$", ipcio.VERSION)
    local known = {}
    for _, scheme in ipairs(ipcio.transports()) do known[scheme] = true end
    assert.is_true(known.pipe)
  end)
end)
