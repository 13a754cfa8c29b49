--- What SWIG's own Lua modules get wrong, and this one does not.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local core = require "ipcio.core"
local ipcio = require "ipcio"
local support = require "support"

describe("the C module", function()
  support.watch_descriptors(before_each, after_each)

  describe("with objects", function()
    local server, client, conn
    before_each(function()
      server = assert(ipcio.listen(support.address()))
      client = assert(ipcio.connect(server:address(), 5))
      conn = assert(server:accept(5))
    end)
    after_each(function()
      server:close()
      client:close()
      conn:close()
    end)

    it("takes no userdata but its own for an object", function()
      local set <close> = core.new_set()
      local others = {io.stdout, core.key(client), set, 5, "text", {}, true, print, coroutine.create(print)}
      local function refuses(class, method, wrong)
        assert.error_matches(function() class[method](wrong, 1, 1) end, "expected, got")
        assert.error_matches(function() class[method]() end, "expected, got n[oi]") -- no value, in Lua nil
      end
      for method in pairs(core.Connection) do
        for _, wrong in ipairs(others) do refuses(core.Connection, method, wrong) end
        refuses(core.Connection, method, server)
      end
      for method in pairs(core.Server) do
        for _, wrong in ipairs(others) do refuses(core.Server, method, wrong) end
        refuses(core.Server, method, conn)
      end
      others[3] = conn
      for method in pairs(core.Set) do
        for _, wrong in ipairs(others) do refuses(core.Set, method, wrong) end
      end
      for _, wrong in ipairs {io.stdout, core.key(client), set, 5, {}} do
        assert.error_matches(function() set:add(wrong, 1) end, "expected, got")
        assert.error_matches(function() core.key(wrong) end, "expected, got")
        assert.error_matches(function() core.try_read(wrong) end, "expected, got")
        assert.error_matches(function() core.try_accept(wrong) end, "expected, got")
      end
      assert.error_matches(function() core.try_read(server) end, "ipcio.Connection expected, got ipcio.Server")
      assert.error_matches(function() core.try_accept(conn) end, "ipcio.Server expected, got ipcio.Connection")
    end)

    it("says which method was called on a wrong object, and where", function()
      local function says(class, wrong, expected, ...)
        for _, method in ipairs {...} do
          local f <const> = class[method]
          local line <const> = debug.getinfo(1, "l").currentline + 1
          local ok, err = pcall(function() f(wrong, print) end)
          assert.is_false(ok)
          assert.matches(("swig_spec.lua:%d: "):format(line), err, 1, true)
          assert.matches(expected, err, 1, true)
          if debug.getinfo(f).what ~= "C" then assert.matches(("bad argument #1 to '%s' ("):format(method), err, 1, true) end
        end
      end
      says(core.Server, conn, "ipcio.Server expected, got ipcio.Connection", "serve", "stop", "close", "accept", "fileno")
      says(core.Server, io.stdout, "ipcio.Server expected, got FILE*", "serve", "stop", "close", "accept", "fileno")
      says(core.Connection, server, "ipcio.Connection expected, got ipcio.Server", "messages", "read", "close")
      says(core.Connection, nil, "ipcio.Connection expected, got nil", "messages", "read", "close")
    end)

    it("finds every method of a class, and no other field", function()
      for _, method in ipairs {
        "read", "write", "call", "close", "fileno", "write_fileno", "peer", "address", "messages", "read_start",
        "read_buffer", "read_end", "write_start", "write_buffer", "write_end",
      } do
        assert.is_function(conn[method])
      end
      for _, method in ipairs {"accept", "close", "address", "serve", "stop", "fileno"} do
        assert.is_function(server[method])
      end
      for _, name in ipairs {"__disown", "__gc", "nonsense", 1} do assert.is_nil(conn[name]) end
      assert.equal("C", debug.getinfo(conn.read).what) -- no function around it
      assert.equal("C", debug.getinfo(conn.write).what)
      assert.equal("C", debug.getinfo(conn.call).what)
    end)

    it("lets nothing be set on an object, nor its metatable", function()
      assert.has_error(function() conn.x = 1 end)
      assert.has_error(function() conn.read = print end)
      assert.is_false(getmetatable(conn))
      assert.is_false(getmetatable(server))
      assert.has_error(function() setmetatable(conn, {}) end)
    end)

    it("survives finalizing by hand", function()
      local others = {io.stdout, core.key(conn), 5}
      for _, object in ipairs {client, server} do
        local finalize = debug.getmetatable(object).__gc
        finalize(object)
        finalize(object)
        assert.error_matches(function() object:address() end, "finalized")
        assert.error_matches(function() object:close() end, "finalized")
        for _, other in ipairs(others) do finalize(other) end
      end
      debug.getmetatable(conn).__gc(server)
      support.fails("closed", conn:read(5))
      client, server = conn, conn
    end)

    it("answers integers as integers", function()
      assert.equal("integer", math.type(conn:fileno()))
      assert.equal("integer", math.type(conn:peer().pid))
      assert.equal("integer", math.type(ipcio.cTCP))
      assert.equal("integer", math.type(ipcio.DEFAULT_BUFSIZE))
      assert.equal("integer", math.type(ipcio.SleepInterval(0)))
      assert(client:write("abc"))
      assert.equal("integer", math.type(conn:read_start(1)))
    end)

    it("refuses integers that C cannot hold", function()
      for _, fd in ipairs {1 << 40, -(1 << 40), math.maxinteger} do
        support.fails("invalid", ipcio.ReadData(fd))
      end
      for _, fd in ipairs {1.5, "x", {}} do
        assert.has_error(function() ipcio.ReadData(fd) end)
      end
      assert.has_error(function() ipcio.ReadData() end)
    end)

    it("takes nil for an optional argument", function()
      assert(client:write("x", nil))
      assert.equal("x", conn:read(nil))
      assert(ipcio.connect(server:address(), nil, nil)):close()
    end)

    it("shares its classes with no other SWIG module", function()
      for name in pairs(debug.getregistry().SWIG) do
        assert.matches(name == ".library" and "." or "^ipcio_", name)
      end
    end)
  end)

  it("sets no global, and loads again", function()
    local peer = support.start("globals")
    assert.equal("false\n", peer:read("a"))
    peer:close()
  end)

  it("leaves a process that leaves everything open", function()
    local peer = support.start("exit", support.address(), support.name())
    assert.equal("", peer:read("a"))
    assert(peer:close())
  end)
end)
