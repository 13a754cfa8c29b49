--- FIFOs, with the shell's echo and cat at the other end, and with ipcio.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local lfs = require "lfs"
local support = require "support"

local fails = support.fails

describe("a FIFO", function()
  support.watch_descriptors(before_each, after_each)

  local folder, path
  before_each(function()
    folder = os.getenv("IPCIO_DIR") .. "/" .. support.name()
    path = folder .. "/lines"
    assert(lfs.mkdir(folder))
  end)
  after_each(function()
    os.remove(path)
    assert(lfs.rmdir(folder)) -- and nothing else was left there
  end)

  local function run(command) return assert(os.execute(command)) end

  local function lines(conn)
    local list = {}
    for line in conn:messages() do list[#list + 1] = line end
    return list
  end

  it("is made by a server, for echo to write to", function()
    local server <close> = assert(ipcio.listen("fifo://" .. path))
    assert.equal("named pipe", lfs.attributes(path, "mode"))
    assert.equal("rw-------", lfs.attributes(path, "permissions"))
    for _, word in ipairs {"hello", "again"} do
      run(("echo %s > %s"):format(word, path))
      local conn <close> = assert(server:accept(30))
      assert.same({word}, lines(conn))
      fails("closed", conn:read(30))
    end
    fails("timeout", server:accept(0))
    server:close()
    assert.is_nil(lfs.attributes(path))
  end)

  it("that is there already is used and stays", function()
    run("mkfifo -m 640 " .. path)
    local server <close> = assert(ipcio.listen("fifo://" .. path))
    run(("printf 'one\\ntwo\\n' > %s"):format(path))
    local conn <close> = assert(server:accept(30))
    assert.same({"one", "two"}, lines(conn))
    server:close()
    assert.equal("rw-r-----", lfs.attributes(path, "permissions"))
  end)

  it("is written to for cat", function()
    run("mkfifo " .. path)
    local cat = assert(io.popen("cat " .. path))
    local conn <close> = assert(ipcio.connect("fifo://" .. path, 30))
    assert.is_true(conn:write("one"))
    assert.is_true(conn:write("two", 30))
    conn:close()
    assert.equal("one\ntwo\n", cat:read("a"))
    assert(cat:close())
  end)

  it("is read from by a client", function()
    fails("missing", ipcio.connect("fifo://" .. path, 0, {direction = "read"}))
    run("mkfifo " .. path)
    fails("missing", ipcio.connect("fifo://" .. path, 0)) -- nobody reads
    local conn <close> = assert(ipcio.connect("fifo://" .. path, 30, {direction = "read", framing = "raw"}))
    fails("timeout", conn:read(0))
    run(("printf 'no line' > %s"):format(path))
    assert.equal("no line", table.concat(lines(conn)))
  end)

  it("serves one shell command after the other", function()
    local server <close> = assert(ipcio.listen("fifo://" .. path))
    local writer = assert(io.popen(("for i in 1 2 3; do echo $i > %s; done; echo end > %s"):format(path, path)))
    local heard = {}
    assert(server:serve(function(request)
      heard[#heard + 1] = request
      if request == "end" then server:stop() end
    end))
    assert.same({"1", "2", "3", "end"}, heard)
    assert(writer:close())
  end)

  it("joins two scripts", function()
    local name = "fifo://" .. support.name()
    local output = support.start("fifo_writer", name)
    local server <close> = assert(ipcio.listen(name))
    local conn <close> = assert(server:accept(30))
    local list = lines(conn)
    assert.equal(1000, #list)
    for i, line in ipairs(list) do assert.equal(tostring(i), line) end
    assert.equal("", output:read("a"))
    assert(output:close())
  end)

  it("tells the end of a killed writer, and of a killed reader", function()
    local name = "fifo://" .. support.name()
    local output, process = support.start("fifo_reader", name)
    local conn <close> = assert(ipcio.connect(name, 30))
    support.kill("KILL", process)
    output:read("a")
    output:close()
    fails("closed", conn:write("x", 30))
    local server <close> = assert(ipcio.listen(name)) -- what the dead one left is no hindrance
    output, process = support.start("fifo_quiet_writer", name)
    local reader <close> = assert(server:accept(30))
    assert.equal("last", reader:read(30))
    support.kill("KILL", process)
    fails("closed", reader:read(30))
    output:read("a")
    output:close()
  end)

  it("has one direction", function()
    local name = "fifo://" .. support.name()
    fails("invalid", ipcio.listen(name, {framing = "message"}))
    fails("unsupported", ipcio.listen(name, {direction = "write"}))
    local server <close> = assert(ipcio.listen(name))
    local client <close> = assert(ipcio.connect(name, 30))
    fails("exists", ipcio.listen(name))
    fails("unsupported", client:read(30))
    fails("unsupported", client:call("x", 30))
    fails("unsupported", client:peer())
    fails("invalid", client:write("two\nlines", 30))
    assert(client:write("only", 30))
    local conn <close> = assert(server:accept(30))
    fails("unsupported", conn:write("x", 30))
    fails("unsupported", conn:write_fileno())
    assert.equal("only", conn:read(30))
  end)
end)
