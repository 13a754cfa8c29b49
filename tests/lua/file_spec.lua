--- Open files that travel with messages.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local support = require "support"

local fails = support.fails

local function file_of(text)
  local file = assert(io.tmpfile())
  assert(file:write(text))
  assert(file:seek("set"))
  return file
end

describe("a file that is passed", function()
  support.watch_descriptors(before_each, after_each)

  describe("to another process", function()
    local conn, output
    before_each(function()
      local address = support.address()
      output = support.start("files", address)
      conn = assert(ipcio.connect(address, 5, {files = true}))
    end)
    after_each(function()
      conn:close()
      assert.equal("", output:read("a"))
      assert.is_true(output:close())
    end)

    it("is read and written there", function()
      local file <close> = file_of("there")
      assert.is_true(conn:send_file(file, "read", 5))
      assert.equal("there", conn:read(5))
      assert(file:seek("set"))
      assert(file:write("THERE")) -- flushed by passing it
      assert.is_true(conn:send_file(file, "append"))
      assert.equal("done", conn:read(5))
      file:seek("set")
      assert.equal("THERE and back", file:read("a"))
    end)

    it("comes from there, with an answer", function()
      assert.equal("here", conn:call("give", 5))
      local file <close> = assert(conn:take_file())
      assert.equal("file", io.type(file))
      assert.equal("one", file:read("l"))
      assert.equal("two", file:read("l"))
      assert.is_nil(file:read("l"))
      assert.is_true(file:close())
      assert.equal("closed file", io.type(file))
      fails("missing", conn:take_file())
    end)

    it("is closed when nobody takes it", function()
      local file <close> = file_of("x")
      local before = conn:call("count", 5)
      for _ = 1, 1000 do assert(conn:send_file(file)) end
      assert.equal(before, conn:call("count", 5))
    end)
  end)

  describe("in one process", function()
    local server, client, conn
    before_each(function()
      local address = support.address()
      server = assert(ipcio.listen(address, {files = true}))
      client = assert(ipcio.connect(address, 5))
      conn = assert(server:accept(5))
    end)
    after_each(function()
      for _, handle in ipairs {server, client, conn} do handle:close() end
    end)

    local function send(file)
      assert(client:send_file(file))
      assert.equal("", conn:read(5))
    end

    it("has the mode it was opened with, or another that fits", function()
      local source <close> = assert(io.open("/dev/null", "r"))
      send(source)
      local file = assert(conn:take_file())
      assert.is_nil(file:write("x"))
      file:close()
      send(source)
      file = assert(conn:take_file("rb"))
      file:close()
      send(source)
      fails("invalid", conn:take_file("w"))
      fails("missing", conn:take_file())
      send(source)
      for _, mode in ipairs {"", "x", "+", "b", "rw", "r++", "rb+", "rb "} do
        assert.has_error(function() conn:take_file(mode) end)
      end
      file = assert(conn:take_file("r")) -- it is still there
      file:close()
    end)

    it("may be the number of a descriptor", function()
      send(1)
      local file = assert(conn:take_file())
      file:close()
      assert(io.stdout:write(""))
    end)

    it("is closed by the collector", function()
      local source <close> = file_of("x")
      send(source)
      assert(conn:take_file())
      collectgarbage()
      collectgarbage()
    end)

    it("must be a file that is open", function()
      local file = file_of("x")
      file:close()
      for _, other in ipairs {file, "1", 1.5, {}, client} do
        assert.has_error(function() client:send_file(other, "x") end)
      end
      assert.has_error(function() client:send_file() end)
      fails("invalid", client:send_file(-1, "x"))
      fails("invalid", client:send_file(1 << 20, "x"))
      assert(client:write("on"))
      assert.equal("on", conn:read(5))
    end)

    it("is only for those who want it", function()
      fails("unsupported", conn:send_file(1, "x"))
      client:close()
      fails("invalid", client:send_file(1, "x"))
      fails("invalid", client:take_file())
    end)
  end)
end)
