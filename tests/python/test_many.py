"""A thousand clients of one server, all there at once, from four processes."""
import resource

import ipcio
import pytest

PROCESSES, EACH = 4, 250

LIMIT = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    """

# "here" is answered when all have asked it, "slow" after "release".
SERVERS = {
    "serve": """
    state = {"here": 0, "released": False}

    def answer(request, conn):
        if request == b"here":
            state["here"] += 1
            while state["here"] < ALL:
                yield
        elif request == b"slow":
            while not state["released"]:
                yield
        elif request == b"release":
            state["released"] = True
        elif request == b"stop":
            server.stop()
        return request

    before = os.listdir("/proc/self/fd")
    with ipcio.listen(arguments[0]) as server:
        tell("ready")
        server.serve(answer)
    tell(state["here"], os.listdir("/proc/self/fd") == before)
    """,
    "aio": """
    import asyncio
    from ipcio import aio
    here = 0

    async def main():
        all_here, released = asyncio.Event(), asyncio.Event()

        async def answer(request, conn):
            global here
            if request == b"here":
                here += 1
                if here == ALL:
                    all_here.set()
                await all_here.wait()
            elif request == b"slow":
                await released.wait()
            elif request == b"release":
                released.set()
            elif request == b"stop":
                server.stop()
            return request

        before = os.listdir("/proc/self/fd")
        async with aio.listen(arguments[0]) as server:
            tell("ready")
            await server.serve(answer)
        tell(here, os.listdir("/proc/self/fd") == before)

    asyncio.run(main())
    """}

# Each first asks for what is answered when all have asked it; then it asks five times more.
CLIENTS = {
    "serve": """
    conns = [ipcio.connect(arguments[0], 30) for _ in range(EACH)]

    def ask(request):
        for number, conn in enumerate(conns):
            conn.write(request(number), 30)
        return sum(conn.read(30) == request(number) for number, conn in enumerate(conns))

    right = ask(lambda number: b"here")
    tell(right + sum(ask(lambda number: b"client %d, round %d" % (number, turn)) for turn in range(5)))
    """,
    "aio": """
    import asyncio
    from ipcio import aio

    async def client(number):
        async with aio.connect(arguments[0], 30) as conn:
            right = await conn.call(b"here", 30) == b"here"
            for turn in range(5):
                request = b"client %d, round %d" % (number, turn)
                right += await conn.call(request, 30) == request
            return right

    async def main():
        tell(sum(await asyncio.gather(*map(client, range(EACH)))))

    asyncio.run(main())
    """}


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < PROCESSES * EACH + 100,
                    reason="it needs more descriptors than this system allows")
@pytest.mark.parametrize("server, clients", [("serve", "serve"), ("aio", "serve"), ("serve", "aio"), ("aio", "aio")])
def test_a_thousand_clients_while_a_handler_waits(script, address, server, clients):
    numbers = f"ALL, EACH = {PROCESSES * EACH}, {EACH}"
    serving = script(LIMIT + numbers + SERVERS[server], address)
    serving.expect("ready")
    with ipcio.connect(address, 30) as slow, ipcio.connect(address, 30) as last:
        slow.write(b"slow")
        asking = [script(LIMIT + numbers + CLIENTS[clients], address) for _ in range(PROCESSES)]
        for each in asking:
            assert each.finish() == [str(EACH * 6)]
        with pytest.raises(ipcio.TimedOut):
            slow.read(0)
        assert last.call(b"release", 30) == b"release"
        assert slow.read(30) == b"slow"
        assert last.call(b"stop", 30) == b"stop"
        assert serving.finish() == [f"{PROCESSES * EACH} True"]
