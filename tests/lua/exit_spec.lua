--- Objects that are left to the end of the state, in whatever order it takes them.

package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path

local ipcio = require "ipcio"
local support = require "support"

-- What a script may have open: a server, both ends of connections, a message half read, one half written, an iterator, what
-- the AutoIt names have opened.
local open = [[
  local ipcio = require "ipcio"
  local address = ...
  local server = assert(ipcio.listen(address))
  local conn = assert(ipcio.connect(address, 10))
  local other = assert(server:accept(10))
  local second = assert(ipcio.connect(address, 10))
  local third = assert(server:accept(10))
  assert(other:write("half read"))
  assert(conn:read_start(10) == 9 and conn:read_buffer(4) == "half")
  assert(third:write_start(9))
  assert(third:write_buffer("half"))
  local messages = second:messages()
  local name = address:match("//(.*)") .. "-autoit"
  assert(ipcio.InitConnection(ipcio.cNamedPipe, name))
  assert(ipcio.OpenConnection(ipcio.cNamedPipe, name))
  local kept = {server, conn, other, second, third, messages, conn.write, server.accept}
  local function use(object)
    for _, name in ipairs {"write", "read", "accept", "fileno", "close"} do
      pcall(function() return object[name](object, name == "write" and "x" or 0) end)
    end
  end
  print "open"
]]

local ends = {
  ["in locals"] = "",
  ["in globals"] = [[
    for i, each in ipairs(kept) do _G["kept" .. i] = each end
  ]],
  ["in a cycle"] = [[
    kept.kept, cycle = kept, kept
  ]],
  ["in the registry"] = [[
    debug.getregistry().kept = kept
  ]],
  ["after their module"] = [[
    kept_all, ipcio = kept, nil
    for name in pairs(package.loaded) do if name:find "^ipcio" then package.loaded[name] = nil end end
    collectgarbage() collectgarbage()
  ]],
  ["with the module's libraries closed first"] = [[
    kept_all, ipcio = kept, nil
    debug.getregistry()._CLIBS = nil
    package.loaded["ipcio.core"] = nil
  ]],
  ["by finalizers that were made before them"] = [[
    for i, each in ipairs(kept) do if type(each) == "userdata" then use(each) end end
    setmetatable({}, {__gc = function() for _, each in ipairs(kept) do use(each) end end})
  ]],
  ["by finalizers in the same cycle"] = [[
    last = setmetatable({kept}, {__gc = function(self) for _, each in ipairs(self[1]) do use(each) end end})
    kept.last = last
    getmetatable(last).__close = getmetatable(last).__gc
    local closing <close> = last
  ]],
  ["in a coroutine that never goes on"] = [[
    suspended = coroutine.create(function()
      local inner <close> = assert(ipcio.connect(address, 10))
      local all = kept
      coroutine.yield()
      return all
    end)
    assert(coroutine.resume(suspended))
  ]],
  ["in a serve whose handler never goes on"] = [[
    local served = assert(ipcio.listen(address .. "-served"))
    local client = assert(ipcio.connect(address .. "-served", 10))
    assert(client:write("x"))
    served:serve(function()
      waits = coroutine.running()
      served:close()
      coroutine.yield()
    end)
  ]],
  ["by os.exit, which closes the state"] = [[
    os.exit(true, true)
  ]],
  ["by os.exit, which does not"] = [[
    os.exit(true)
  ]],
}

-- Runs the code in a process of its own; all it prints, and how it ended.
local function run(code, address)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(code)
  file:close()
  local lua = arg and arg[-1] or "lua5.4"
  local process = assert(io.popen(("exec timeout 60 '%s' -W '%s' '%s' 2>&1"):format(lua, path, address)))
  local printed = process:read("a")
  local _, how, status = process:close()
  os.remove(path)
  return printed, how, status
end

describe("Objects", function()
  for how, code in pairs(ends) do
    it("end with the state, " .. how, function()
      local address = support.address()
      assert.same({"open\n", "exit", 0}, {run(open .. code, address)})
      assert(ipcio.listen(address)):close() -- the name is free
    end)
  end

  it("end with an error of the script, which is all that is told", function()
    local printed, how, status = run(open .. "error('it went wrong', 0)", support.address())
    assert.matches("^open\n[^\n]*it went wrong\n", printed)
    assert.same({"exit", 1}, {how, status})
  end)

  it("are dropped in every order", function()
    local before, count = support.descriptors(), 0
    local function orders(list, n, visit)
      if n == 0 then return visit(list) end
      for i = 1, n do
        list[i], list[n] = list[n], list[i]
        orders(list, n - 1, visit)
        list[i], list[n] = list[n], list[i]
      end
    end
    orders({1, 2, 3, 4}, 4, function(order)
      local address = support.address()
      local kept = {assert(ipcio.listen(address)), assert(ipcio.connect(address, 10))}
      kept[3] = assert(kept[1]:accept(10))
      kept[4] = kept[2]:messages()
      for _, place in ipairs(order) do
        kept[place] = nil
        collectgarbage()
      end
      assert.equal(before, support.descriptors())
      count = count + 1
    end)
    assert.equal(24, count)
  end)
end)
