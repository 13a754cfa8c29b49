--- Memory that another process reads.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local support = require "support"

local fails = support.fails
local pid = io.open("/proc/self/stat"):read("n")

describe("memory", function()
  support.watch_descriptors(before_each, after_each)

  it("that is exported is read and written in place", function()
    local memory = assert(ipcio.export_memory(10))
    assert.equal(pid, memory:pid())
    assert.equal(10, memory:size())
    local address = memory:address()
    assert.equal(("\0"):rep(10), memory:read())
    assert.is_true(memory:write(3, "ab\0c"))
    assert.equal("\0\0\0ab\0c\0\0\0", memory:read())
    assert.equal("ab\0", memory:read(3, 3))
    assert.equal("\0\0", memory:read(8))
    assert.equal("", memory:read(10))
    collectgarbage()
    assert.equal(address, memory:address())
    assert.equal("ab\0c", ipcio.read_memory(pid, address + 3, 4))
    assert.equal("", ipcio.read_memory(pid, address, 0))
    assert.equal("a copy", assert(ipcio.export_memory("a copy")):read())
    assert.equal(0, assert(ipcio.export_memory("")):size())
  end)

  it("has bounds", function()
    local memory = assert(ipcio.export_memory("0123456789"))
    for _, place in ipairs {{-1}, {11}, {0, 11}, {5, 6}, {5, -1}, {math.maxinteger}, {1, math.maxinteger},
                       {math.mininteger, -1}} do
      fails("invalid", memory:read(table.unpack(place)))
    end
    fails("invalid", memory:write(8, "abc"))
    fails("invalid", memory:write(-1, "a"))
    fails("invalid", memory:write(11, ""))
    assert.is_true(memory:write(10, ""))
    assert.equal("0123456789", memory:read())
    fails("invalid", ipcio.export_memory(-1))
    for _, wrong in ipairs {{}, true, io.stdout, 1.5} do
      assert.has_error(function() ipcio.export_memory(wrong) end)
      assert.has_error(function() memory.read(wrong) end)
      assert.has_error(function() memory:write(wrong, "") end)
    end
    assert.has_error(function() memory.x = 1 end)
    assert.is_false(getmetatable(memory))
  end)

  it("is asked for more than there is room for", function()
    local data, message, code = ipcio.read_memory(pid, 1 << 20, 1 << 50)
    assert.same({nil, ("process %d: no memory for the %d bytes to be read"):format(pid, 1 << 50), "nomemory"},
                {data, message, code})
    fails("nomemory", ipcio.export_memory(1 << 50))
    fails("nomemory", ipcio.export_memory(math.maxinteger))
  end)

  it("is read by another process", function()
    local memory = assert(ipcio.export_memory("there"))
    local output = support.start("memory_reader", memory:pid(), memory:address(), memory:size())
    assert.equal("there", output:read("l"))
    assert.equal("invalid", output:read("l"))
    assert.equal("toobig", output:read("l"))
    assert(output:close())
  end)

  it("of another process is read", function()
    local output, process = support.start("memory")
    local address, size = output:read("n", "n")
    local text = assert(ipcio.read_memory(process, address, size))
    assert.equal(("0123456789"):rep(100000), text)
    support.kill("KILL", process)
    output:read("a")
    output:close()
    fails("missing", ipcio.read_memory(process, address, size))
  end)

  it("is told why it cannot be read", function()
    fails("invalid", ipcio.read_memory(pid, 0, 1))
    fails("invalid", ipcio.read_memory(0, 0, 1))
    fails("invalid", ipcio.read_memory(pid, 1, -1))
    fails("missing", ipcio.read_memory(1 << 40, 0, 1))
    for _, wrong in ipairs {{}, {pid}, {pid, 1}, {"x", 1, 1}, {pid, {}, 1}, {pid, 1, 0.5}} do
      assert.has_error(function() ipcio.read_memory(table.unpack(wrong, 1, 3)) end)
    end
  end)
end)
