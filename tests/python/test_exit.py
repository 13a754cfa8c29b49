"""Objects that are left to the interpreter's end, in whatever order it takes them."""
import math
import os
import textwrap

import ipcio
import pytest

# What a script may have open: a server, both ends of connections, a message half read, one half written, an iterator, a
# serve that is suspended, what the AutoIt names have opened.
OPEN = textwrap.dedent("""
    os.dup2(1, 2)  # what it complains of is told, too
    import asyncio, atexit, builtins, gc
    import ipcio.aio
    address = arguments[0]
    server = ipcio.listen(address)
    conn = ipcio.connect(address, 10)
    other = server.accept(10)
    second = ipcio.connect(address, 10)
    third = server.accept(10)
    other.write(b"half read")
    assert conn.read_start(10) == 9 and conn.read_buffer(4) == b"half"
    third.write_start(9)
    third.write_buffer(b"half")
    messages = iter(second)
    ipcio.InitConnection(ipcio.cNamedPipe, address.partition("://")[2] + "-autoit")
    ipcio.OpenConnection(ipcio.cNamedPipe, address.partition("://")[2] + "-autoit")
    def keep():
        return [server, conn, other, second, third, messages, conn.write, server.accept, server.address]
    """)

ENDS = {
    "in the module": "",
    "in a cycle": """
        cycle = keep(); cycle.append(cycle); del server, conn, other, second, third, messages
        """,
    "in builtins": """
        builtins.kept = keep()
        """,
    "after their module": """
        kept = keep()
        for name in [name for name in sys.modules if name.startswith("ipcio")]: del sys.modules[name]
        del ipcio; gc.collect()
        """,
    "by finalizers that use them": """
        class Last:
            def __init__(self, *objects): self.objects = objects
            def __del__(self):
                for each in self.objects:
                    for use, arguments in ("write", [b"x", 0]), ("read", [0]), ("accept", [0]), ("close", []), ("fileno", []):
                        try: getattr(each, use)(*arguments)
                        except Exception: pass
        lasts = [Last(*keep()[:5]), Last(server), Last(conn, other)]
        lasts.append(lasts); builtins.last = Last(*keep()[:5])
        """,
    "by atexit": """
        for each in keep()[:5]: atexit.register(each.close)
        atexit.register(lambda: second.write(b"last words"))
        """,
    "in a thread that has ended": """
        local = threading.local()
        def run(): local.kept = keep()
        thread = threading.Thread(target=run); thread.start(); thread.join()
        """,
    "in a generator": """
        def suspended():
            with ipcio.connect(address, 10) as inner:
                kept = keep()
                yield inner
        generator = suspended(); next(generator)
        """,
    "in a loop that is dropped": """
        loop = asyncio.new_event_loop()
        async def main():
            client = await ipcio.aio.connect(address, 10)
            return client
        client = loop.run_until_complete(main())
        loop.close(); del loop
        """,
    "by sys.exit in a with": """
        with server, conn, other: sys.exit(0)
        """,
}


@pytest.mark.parametrize("how", ENDS)
def test_objects_end_with_the_interpreter(script, address, how):
    ends = script(OPEN + "tell('open')\n" + textwrap.dedent(ENDS[how]), address)
    ends.expect("open")
    assert ends.finish() == []
    ipcio.listen(address).close()  # the name is free
    name = address.partition("://")[2]
    assert [left for left in os.listdir(os.environ["IPCIO_DIR"]) if left.startswith(name)] == []


def test_daemon_threads_outlive_the_objects(script, address, python_leaks):
    """They wait for what the interpreter takes from under them."""
    ends = script(OPEN + textwrap.dedent("""
        def until(call):
            started.release()
            try: call()
            except ipcio.Error: pass
        started = threading.Semaphore(0)
        calls = [server.accept, lambda: conn.read_buffer(100), other.read, lambda: next(messages), third.read,
                 lambda: other.write(bytes(64 << 20))]
        for call in calls: threading.Thread(target=until, args=[call], daemon=True).start()
        for _ in calls: started.acquire()
        conn.close()  # for one of them right before the end
        tell("open")
        del server, conn, other, second, third, messages
        """), address)
    ends.expect("open")
    assert ends.finish() == []


def test_objects_are_dropped_in_every_order(script, address):
    ends = script("""
        os.dup2(1, 2)
        import gc, itertools
        def descriptors(): return len(os.listdir("/proc/self/fd"))
        ipcio.listen(arguments[0]).close()
        before = descriptors()
        count = 0
        for order in itertools.permutations(range(5)):
            server = ipcio.listen(arguments[0])
            conn = ipcio.connect(arguments[0], 10)
            other = server.accept(10)
            kept = [server, conn, other, iter(conn), other.write]
            del server, conn, other
            for place in order: kept[place] = None
            assert descriptors() == before
            count += 1
        tell(count)
        """, address)
    assert ends.finish() == [str(math.factorial(5))]
