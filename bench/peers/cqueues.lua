-- cqueues' sockets, which block where no coroutine of its own runs.
local socket = require "cqueues.socket"

return function(where, ready, size)
  local conn
  if where then
    conn = assert(socket.connect {path = where})
  else
    local path = os.tmpname()
    assert(os.remove(path))
    local listener = assert(socket.listen {path = path})
    assert(listener:listen())
    ready(path)
    conn = assert(listener:accept(30))
    assert(os.remove(path))
  end
  conn:setmode("bn", "bn")
  return {
    write = function(_, data) return conn:xwrite(data, "bn") end,
    read = function() return conn:xread(size, "b") end,
  }
end
