--- What the tests share: names of their own, descriptors, second processes.

local lfs = require "lfs"

local support = {}

local pid = io.open("/proc/self/stat"):read("n")
local count = 0

--- A name that no other test and no other run has.
function support.name()
  count = count + 1
  return ("lua-test-%d-%d"):format(pid, count)
end

function support.address()
  return "pipe://" .. support.name()
end

--- The open descriptors, as text that can be compared.
function support.descriptors()
  collectgarbage()
  collectgarbage()
  local list = {}
  for entry in lfs.dir("/proc/self/fd") do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. entry, "target")
    if target and not target:find("^/proc/%d+/fd$") then list[#list + 1] = entry .. " " .. target end
  end
  table.sort(list)
  return table.concat(list, "\n")
end

--- Makes each test of the describe block fail that leaves descriptors open or closes one of before.
function support.watch_descriptors(before_each, after_each)
  local before
  before_each(function() before = support.descriptors() end)
  after_each(function() require "luassert".equal(before, support.descriptors()) end)
end

local folder = debug.getinfo(1, "S").source:match("^@(.*)[/\\]") or "."

--- Starts role `name` of peer.lua in a process of its own and waits until it says "ready".
-- What it prints, errors too, follows in the file that is returned, with the process's number.
function support.start(name, ...)
  local words = {"exec", "timeout", "60", arg and arg[-1] or "lua5.4", folder .. "/peer.lua", name, ...}
  for i = 2, #words do words[i] = "'" .. tostring(words[i]):gsub("'", "'\\''") .. "'" end
  if support.before then table.insert(words, 1, support.before) end
  local file = assert(io.popen(table.concat(words, " ") .. " 2>&1", "r"))
  local process = file:read("n")
  assert(file:read("l") == " ready", "the second process does not start")
  return file, process
end

--- Runs f(); the processes that it starts begin with these words of the shell.
function support.with(words, f)
  support.before = words
  local ok, err = pcall(f)
  support.before = nil
  if not ok then error(err, 0) end
end

--- Sends the signal to the process.
function support.kill(signal, process)
  assert(os.execute(("kill -%s %d"):format(signal, process)))
end

--- Asserts that a call answered nil, a message and this code; returns the message.
function support.fails(code, value, message, got)
  local assert = require "luassert"
  assert.is_nil(value)
  assert.is_string(message)
  assert.equal(code, got)
  return message
end

return support
