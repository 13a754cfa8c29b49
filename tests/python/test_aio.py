"""ipcio.aio: the calls for asyncio.  docs/design/lessons.md 10: no async API (iceoryx2#47)."""
import asyncio
import gc
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import weakref
from decimal import Decimal
from fractions import Fraction

import ipcio
import pytest
from ipcio import aio

pytestmark = pytest.mark.filterwarnings("error")  # such as a coroutine that was never awaited

SERVER = """
    with ipcio.listen(arguments[0]) as server:
        tell("ready")
        with server.accept(30) as conn:
"""


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def new_loop(request):
    new = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    loop = new()
    loop.run_until_complete(asyncio.sleep(0))  # what a library opens once is open before the tests
    loop.close()
    return new


@pytest.fixture
def run(new_loop, caplog):
    """Runs a coroutine in a new event loop, in which nothing may go wrong unseen."""

    def run(coroutine):
        loop = new_loop()
        try:
            return loop.run_until_complete(coroutine)
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    yield run
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def begin(coroutine):
    """A task that has come to where it waits."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def line(script):
    """The script's next line, without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, script.line)


# ------------------------------------------------------------------------------------------ connections


def test_call(run, echo):
    async def main():
        async with aio.connect(echo, 10) as conn:
            assert await conn.call(b"hello", 10) == b"hello"
            assert await conn.call(b"", timeout=10) == b""
            assert await conn.call(bytearray(b"x") * 100_000, 10) == b"x" * 100_000

    run(main())


def test_write_and_read(run, echo):
    async def main():
        conn = await aio.connect(echo, timeout=10)
        assert await conn.write(b"1") is None
        await conn.write(memoryview(b"2"))
        assert [await conn.read(10), await conn.read()] == [b"1", b"2"]
        conn.close()
        conn.close()

    run(main())


def test_connect_is_a_coroutine_and_an_async_context_manager(run, echo):
    async def main():
        first = await asyncio.create_task(aio.connect(echo, 10))
        second, third = await asyncio.gather(aio.connect(echo, 10), aio.connect(echo, 10))
        async with first, second as other, third:
            assert other is second
            assert await asyncio.wait_for(other.call(b"x"), 10) == b"x"
        for conn in first, second, third:
            with pytest.raises(ipcio.Invalid, match="closed"):
                await conn.read(0)

    run(main())


def test_in_pieces(run, echo):
    async def main():
        async with aio.connect(echo, 10) as conn:
            await conn.write_start(6, timeout=10)
            await conn.write_buffer(b"wor")
            await conn.write_buffer(bytearray(b"ld!"), timeout=10)
            await conn.write_end()
            assert await conn.read_start(timeout=10) == 6
            assert await conn.read_buffer(4, timeout=10) == b"worl"
            assert await conn.read_buffer(2**40) == b"d!"
            assert await conn.read_buffer(4) == b""
            await conn.read_end()
            assert await conn.call(b"x", 10) == b"x"

    run(main())


def test_files(run, script, address, tmp_path):
    server = script("""
        with ipcio.listen(arguments[0], files=True) as server, server.accept(30) as conn:
            message = conn.read(30)
            with os.fdopen(conn.take_file()) as file: tell(message.decode(), file.read())
            read, write = os.pipe()
            conn.send_file(read)
            os.write(write, b"from a pipe")
        """, address)
    (tmp_path / "file").write_text("from a file")

    async def main():
        async with aio.connect(address, 10, files=True) as conn:
            with open(tmp_path / "file") as file:
                await conn.send_file(file, b"a message", 10)
            assert await line(server) == "a message from a file"
            assert await conn.read(10) == b""
            with os.fdopen(conn.take_file(), "rb", 0) as file:
                assert file.read(100) == b"from a pipe"
            with pytest.raises(ipcio.Missing):
                conn.take_file()

    run(main())


def test_long_messages_both_ways_at_once(run, echo):
    async def main():
        async with aio.connect(echo, 10) as conn:
            sent = [bytes([number]) * (4 << 20) for number in range(4)]

            async def write():
                for message in sent:
                    await conn.write(message, 30)

            writing = asyncio.create_task(write())
            assert [await conn.read(30) for _ in sent] == sent
            await writing

    run(main())


def test_what_a_connection_tells(run, echo):
    async def main():
        with ipcio.connect(echo, 10) as plain:
            async with aio.connect(echo, 10) as conn:
                assert conn.address == echo
                assert repr(conn) == f"<ipcio.aio.Connection {echo}>"
                assert conn.peer == plain.peer
                assert len({conn.fileno(), conn.write_fileno()}) == 2

    run(main())


def test_messages_until_the_peer_closes(run, script, address):
    script(SERVER + """
            for word in b"one", b"", b"three": conn.write(word)
        """, address)

    async def main():
        async with aio.connect(address, 10) as conn:
            assert [message async for message in conn] == [b"one", b"", b"three"]
            assert [message async for message in conn.messages()] == []
            with pytest.raises(ipcio.Closed):
                await conn.read()
        with pytest.raises(ipcio.Invalid, match="closed"):  # by this side
            async for _ in conn:
                pass

    run(main())


def test_connect_waits_for_the_server(run, script, address):
    async def main():
        connecting = await begin(aio.connect(address))
        script(SERVER + """
            for message in conn: conn.write(message)
            """, address)
        async with await connecting as conn:
            assert await conn.call(b"x", 10) == b"x"

    run(main())


def test_connect_to_nobody(run, address):
    async def main():
        with pytest.raises(ipcio.Missing):
            await aio.connect(address, 0)
        with pytest.raises(ipcio.TimedOut, match=r"nobody served the name within 0\.05 s"):
            await aio.connect(address, 0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.connect(address), 0.05)
        await cancel(await begin(aio.connect(address)))
        for wrong in "nothing", "pipe://", "pipe://x?limit=0":
            with pytest.raises(ipcio.Invalid):
                await aio.connect(wrong)

    run(main())


def test_options(run, address):
    async def main():
        async with aio.listen(address, limit=1000), aio.connect(address, 10) as conn:
            with pytest.raises(ipcio.TooBig):
                await conn.write(bytes(1001))

    run(main())


def test_a_killed_peer(run, script, address):
    server = script(SERVER + "            wait()", address)

    async def main():
        async with aio.connect(address, 10) as conn:
            reading = await begin(conn.read())
            server.process.kill()
            with pytest.raises(ipcio.Closed):
                await reading

    run(main())


def test_connect_fails_after_a_while(run, tmp_path):
    """Nobody has the name at first, then something else is there."""
    path = tmp_path / "fifo"

    async def main():
        connecting = await begin(aio.connect(f"fifo://{path}"))
        path.touch()
        with pytest.raises(ipcio.Invalid, match="what is there is not a FIFO"):
            await connecting

    run(main())


def test_a_connection_takes_one_descriptor(run, echo):
    """Lesson 10 (iceoryx#1045), and what a thousand clients cost."""
    async def main():
        async with aio.connect(echo, 10) as first:
            await cancel(await begin(first.read()))  # which makes what all of the loop's wait by
            before = len(os.listdir("/proc/self/fd"))
            conns = [await aio.connect(echo, 10) for _ in range(10)]
            for conn in conns:
                assert await conn.call(b"x", 10) == b"x"
            assert len(os.listdir("/proc/self/fd")) == before + 10
            for conn in conns:
                conn.close()
            assert len(os.listdir("/proc/self/fd")) == before

    run(main())


def test_who_is_not_referred_to_is_closed(run, script, address):
    script(SERVER + """
            for message in conn: pass
            tell("closed")
        """, address).expect("ready")

    async def main():
        conn = await aio.connect(address, 10)
        with pytest.raises(ipcio.TimedOut):
            await conn.read(0.01)
        before = len(os.listdir("/proc/self/fd"))
        del conn
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) < before

    run(main())


def test_who_waits_need_not_be_referred_to(run, script, address):
    server = script(SERVER + """
            wait()
            conn.write(b"x")
            wait()
        """, address)

    async def main():
        reading, got = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def read():
            conn = await aio.connect(address, 10)
            reading.set()
            got.set_result(await conn.read())

        asyncio.ensure_future(read())
        await reading.wait()
        gc.collect()
        server.go()
        assert await asyncio.wait_for(got, 30) == b"x"

    run(main())


def raw_peer(framing):
    """A connection's coroutine, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    return aio.connect(f"fd://{ours.detach()}?framing={framing}", 10), theirs


def test_a_read_that_ends_the_connection_wakes_the_writer(run):
    async def main():
        connecting, peer = raw_peer("message")
        with peer:
            async with connecting as conn:
                reading, writing = await begin(conn.read()), None
                while writing is None or writing.done():  # until the socket is full
                    writing = asyncio.ensure_future(conn.write(bytes(4000)))
                    await asyncio.sleep(0)
                peer.send(b"rubbish" * 100)
                with pytest.raises(ipcio.ProtocolError):
                    await reading
                with pytest.raises(ipcio.Closed):
                    await asyncio.wait_for(writing, 30)

    run(main())


def test_a_write_given_up_half_way_wakes_the_reader(run):
    """In line framing that ends the connection."""
    async def main():
        connecting, peer = raw_peer("line")
        with peer:
            async with connecting as conn:
                reading, writing = await begin(conn.read()), await begin(conn.write(b"x" * (16 << 20)))
                await cancel(writing)
                with pytest.raises(ipcio.Closed):
                    await asyncio.wait_for(reading, 30)

    run(main())


def test_a_lack_of_descriptors_for_a_wait(script, address):
    server = ipcio.listen(address)
    client = script("""
        import asyncio, resource
        from ipcio import aio
        sys.unraisablehook = lambda error: tell("unraisable", error)
        async def main():
            async with aio.connect(arguments[0], 10) as conn:
                before = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
                try:
                    await conn.read()
                except ipcio.System:
                    tell("none left")
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                tell((await conn.read()).decode())
        asyncio.run(main())
        """, address)
    with server, server.accept(30) as conn:
        client.expect("none left")
        conn.write(b"x")
        client.expect("x")
    assert client.finish() == []


# ------------------------------------------------------------------------------------------ every transport


@pytest.fixture(params=[scheme for scheme in ("pipe", "tcp", "shm") if scheme in ipcio.transports()])
def any_address(request, address):
    """An address to listen at."""
    return "tcp://127.0.0.1:0" if request.param == "tcp" else address.replace("pipe", request.param, 1)


def test_a_transport(run, any_address):
    async def main():
        async with aio.listen(any_address) as server:
            serving = asyncio.create_task(server.serve(hello))
            async with aio.connect(server.address, 10) as conn, aio.connect(server.address, 10) as other:
                assert await conn.call(b"world", 10) == b"hello world"
                sent = bytes(range(256)) * (16 << 10)
                answers = await asyncio.gather(conn.call(sent, 30), other.call(sent, 30))
                assert answers == [b"hello " + sent] * 2
                await cancel(await begin(conn.call(bytes(16 << 20))))
                assert await conn.call(b"again", 30) == b"hello again"
            server.stop()
            await serving

    run(main())


def test_a_client_before_its_server(run, any_address):
    async def main():
        with ipcio.listen(any_address) as server:
            address = server.address
        connecting = await begin(aio.connect(address))
        with pytest.raises(ipcio.TimedOut):
            await aio.connect(address, 0.05)
        async with aio.listen(address) as server, await connecting as conn, server.accept(10) as other:
            await conn.write(b"x")
            assert await other.read(10) == b"x"

    run(main())


@pytest.mark.skipif("tcp" not in ipcio.transports(), reason="this build has no tcp")
def test_a_connect_on_its_way(run):
    """A full queue of clients keeps it waiting: it has a descriptor by then, but is no connection yet."""
    async def main():
        with socket.socket() as server, socket.socket() as first, socket.socket() as second:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            address = "tcp://{}:{}?framing=line".format(*server.getsockname())
            for client in first, second:  # the system takes one more than it was told
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            await cancel(await begin(aio.connect(address)))
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(ipcio.TimedOut) as held:
                await aio.connect(address, 0.05)
            assert len(os.listdir("/proc/self/fd")) == before, held  # though its traceback is still here
            connecting = await begin(aio.connect(address))
            for _ in range(2):
                server.accept()[0].close()
            async with await connecting:
                pass

    run(main())


@pytest.mark.skipif("tcp" not in ipcio.transports(), reason="this build has no tcp")
def test_a_write_that_waits_to_read(run, script, tmp_path):
    """How long a message the server takes it only tells when it accepts, since it has another folder of names."""
    server = script("""
        os.environ["IPCIO_DIR"] = arguments[0]
        with ipcio.listen("tcp://127.0.0.1:0", access="all", limit=100_000) as server:
            tell(server.address)
            wait()
            with server.accept(30) as conn:
                for message in conn: conn.write(message)
        """, tmp_path / "names")

    async def main():
        async with aio.connect(server.line(), 10) as conn:
            with pytest.raises(ipcio.TimedOut):
                await conn.write(bytes(10_000), 0.01)
            await cancel(await begin(conn.write(bytes(20_000))))
            await cancel(await begin(conn.call(bytes(20_000))))
            reading, writing = await begin(conn.read()), await begin(conn.write(bytes(30_000)))
            server.go()
            await writing
            assert await reading == bytes(30_000)
            with pytest.raises(ipcio.TooBig):
                await conn.write(bytes(100_001))
            assert await conn.call(b"x", 30) == b"x"

    run(main())


# ------------------------------------------------------------------------------------------ timeouts


def test_timeouts(run, address):
    async def main():
        async with aio.listen(address) as server:
            with pytest.raises(ipcio.TimedOut, match=r"no client within 0\.01 s"):
                await server.accept(0.01)  # lesson 10: no timeout on accept (cpython#76425)
            with pytest.raises(ipcio.TimedOut):
                await server.accept(0)
            async with aio.connect(address, 10) as conn, server.accept(10) as other:
                with pytest.raises(TimeoutError, match=r"no message within 0\.01 s"):
                    await conn.read(0.01)
                with pytest.raises(ipcio.TimedOut):
                    await conn.read(0)
                for wait in 0, 0.01:
                    with pytest.raises(ipcio.TimedOut):
                        await conn.read_start(wait)
                    with pytest.raises(ipcio.TimedOut, match="the peer did not take the message"):
                        await conn.write(bytes(16 << 20), wait)
                reading = await begin(other.read())
                await conn.write(b"next", 10)
                assert await reading == b"next"

    run(main())


@pytest.mark.parametrize("call", [
    lambda conn, data: conn.write(data, 0.01), lambda conn, data: conn.call(data, 0.01),
    lambda conn, data: conn.send_file(0, data, 0.01), lambda conn, data: conn.write_buffer(data, 0.01)],
    ids=["write", "call", "send_file", "write_buffer"])
def test_a_failed_write_lets_its_data_go(run, address, call):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10):
            data = bytearray(16 << 20)
            with pytest.raises(ipcio.Error) as held:
                await call(conn, data)
            data.append(1)
            assert held.value.__traceback__

    run(main())


def test_a_message_of_which_a_part_has_come(run, script, address):
    server = script(SERVER + """
            conn.write_start(6)
            conn.write_buffer(b"abc")
            tell("half")
            wait()
            conn.write_buffer(b"def")
            conn.write_end()
            wait()
        """, address)

    async def main():
        async with aio.connect(address, 10) as conn:
            server.expect("ready")
            server.expect("half")
            with pytest.raises(ipcio.TimedOut):
                await conn.read(0.01)
            await cancel(await begin(conn.read()))
            server.go()
            assert await conn.read(30) == b"abcdef"

    run(main())


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("-inf")])
def test_what_is_no_timeout(run, address, timeout):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10) as other:
            for call in conn.read(timeout), conn.write(b"x", timeout), conn.call(b"x", timeout), server.accept(timeout):
                with pytest.raises(ipcio.Invalid, match="timeout"):
                    await call
            with pytest.raises(ipcio.Invalid, match="timeout"):
                await aio.connect(address + "-nobody", timeout)
            conn.close()
            assert [message async for message in other] == []  # nothing was sent

    run(main())


@pytest.mark.parametrize("timeout, error", [(Decimal("0.01"), ipcio.TimedOut), (Fraction(1, 100), ipcio.TimedOut),
                                            (10**400, OverflowError), ("1", TypeError)],
                         ids=["Decimal", "Fraction", "huge", "str"])
def test_timeouts_of_other_types(run, address, timeout, error):
    """Are taken and refused as by the calls that wait, and disturb no later call."""
    async def main():
        async with aio.listen(address) as server:
            with ipcio.connect(address, 10) as waiting, pytest.raises(error):
                waiting.read(timeout)
            await server.accept(10)
            async with aio.connect(address, 10) as conn, server.accept(10) as other:
                with pytest.raises(error):
                    await conn.read(timeout)
                with pytest.raises(error):
                    await conn.write(bytes(16 << 20), timeout)
                reading = await begin(other.read(10))
                await conn.write(b"next", 10)
                assert await reading == b"next"
            if error is not ipcio.TimedOut:
                with pytest.raises(error):
                    await aio.connect(address, timeout)

    run(main())


def test_what_is_no_data(run, address):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10) as other:
            for wrong in "text", 1, None, memoryview(b"abcd")[::2]:
                for call in conn.write, conn.call:
                    with pytest.raises((TypeError, BufferError)):
                        await call(wrong)
            with pytest.raises(TypeError):
                await conn.read("1")
            conn.close()
            assert [message async for message in other] == []

    run(main())


# ------------------------------------------------------------------------------------------ cancelling


def test_cancelled_reads_lose_no_message(run, script, address):
    script(SERVER + """
            for number in range(2000): conn.write(b"%d" % number)
            for message in conn: pass
        """, address)

    async def main():
        async with aio.connect(address, 10) as conn:
            got, cancelled = [], 0
            while len(got) < 2000:
                reading = asyncio.create_task(conn.read())
                for _ in range(len(got) % 4):
                    await asyncio.sleep(0)
                reading.cancel()
                try:
                    got.append(await reading)
                except asyncio.CancelledError:
                    cancelled += 1
                    got.append(await conn.read(30))
            assert got == [b"%d" % number for number in range(2000)]
            assert cancelled

    run(main())


def test_a_task_cancelled_when_its_message_has_come(run, address):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10) as other:
            for steps in range(4):
                reading = await begin(conn.read())
                await other.write(b"%d" % steps)
                for _ in range(steps):
                    await asyncio.sleep(0)
                reading.cancel()
                (answer,) = await asyncio.gather(reading, return_exceptions=True)
                assert (await conn.read(30) if isinstance(answer, asyncio.CancelledError) else answer) == b"%d" % steps

    run(main())


def test_a_cancelled_write_takes_its_message_back(run, script, address):
    server = script(SERVER + """
            wait()
            for message in conn: tell(len(message))
        """, address)

    async def main():
        async with aio.connect(address, 10) as conn:
            await cancel(await begin(conn.write(bytes(16 << 20))))
            await cancel(await begin(conn.call(bytes(16 << 20))))
            writing = await begin(conn.write(bytes(1 << 20)))
            server.go()
            await writing

    run(main())
    assert server.finish() == ["ready", str(1 << 20)]


def test_the_late_answer_to_a_cancelled_call_is_dropped(run, script, address):
    server = script(SERVER + """
            late = conn.read()
            tell("asked")
            wait()
            conn.write(b"the answer to " + late)
            for message in conn: conn.write(b"the answer to " + message)
        """, address)

    async def main():
        async with aio.connect(address, 10) as conn:
            calling = await begin(conn.call(b"one"))
            assert [await line(server), await line(server)] == ["ready", "asked"]
            await cancel(calling)
            server.go()
            assert await conn.call(b"two", 30) == b"the answer to two"

    run(main())


def test_cancelled_accepts_lose_no_client(run, script, address):
    client = """
        with ipcio.connect(arguments[0], 30) as conn:
            assert conn.call(b"x", 30) == b"x"
        """

    async def main():
        async with aio.listen(address) as server:
            await cancel(await begin(server.accept()))
            scripts = [script(client, address) for _ in range(4)]
            for _ in scripts:
                conn = None
                while conn is None:
                    accepting = asyncio.create_task(server.accept())
                    await asyncio.sleep(0)
                    accepting.cancel()
                    (conn,) = await asyncio.gather(accepting, return_exceptions=True)
                    if isinstance(conn, asyncio.CancelledError):
                        conn = None
                async with conn:
                    await conn.write(await conn.read(30))
            for each in scripts:
                each.finish()

    run(main())


# ------------------------------------------------------------------------------------------ several tasks


def test_a_second_call_in_one_direction_is_refused_and_disturbs_nothing(run, address):
    async def main():
        async with aio.listen(address) as server:
            accepting = await begin(server.accept())
            with pytest.raises(ipcio.Invalid, match=f"^{address}: another call"):
                await server.accept()
            async with aio.connect(address, 10) as conn, await accepting as other:
                reading = await begin(conn.read())
                for call in conn.read, conn.read_start, conn.__anext__, lambda: conn.call(b"x"):
                    with pytest.raises(ipcio.Invalid, match="another call"):
                        await call()
                writing = await begin(conn.write(bytes(16 << 20)))
                for call in conn.write, conn.write_buffer:
                    with pytest.raises(ipcio.Invalid, match="another call"):
                        await call(b"x")
                await other.write(b"one")
                assert await reading == b"one"
                assert await other.read() == bytes(16 << 20)
                await writing
                conn.close()
                assert [message async for message in other] == []

    run(main())


@pytest.mark.parametrize("call", ["read", "read_start", "call", "write", "call much", "accept"])
def test_close_wakes_who_waits(run, address, call):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10):
            coroutine, closed = {
                "read": (conn.read, conn), "read_start": (conn.read_start, conn), "call": (lambda: conn.call(b"x"), conn),
                "write": (lambda: conn.write(bytes(16 << 20)), conn),
                "call much": (lambda: conn.call(bytes(16 << 20)), conn), "accept": (server.accept, server)}[call]
            waiting = await begin(coroutine())
            closed.close()
            async with aio.listen(address + "-other"):  # which takes the descriptors that have become free
                with pytest.raises(ipcio.Invalid, match="closed"):
                    await waiting

    run(main())


def test_close_wakes_reader_and_writer(run, address):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10):
            waiting = [await begin(conn.read()), await begin(conn.write(bytes(16 << 20)))]
            conn.close()
            errors = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in errors] == [ipcio.Invalid] * 2

    run(main())


def test_who_need_not_wait_leaves_others_their_turn(run, script, address):
    server = script(SERVER + """
            for number in range(200): conn.write(b"x")
            tell("sent")
            for message in conn: pass
        """, address)

    async def main():
        async with aio.connect(address, 10) as conn:
            assert [await line(server), await line(server)] == ["ready", "sent"]
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = await begin(count())
            for _ in range(200):
                assert await conn.read(0) == b"x"
            assert turns > 2
            await cancel(counting)

    run(main())


def test_another_event_loop(run, address):
    async def wait(handle):
        return await (handle.accept(30) if isinstance(handle, aio.Server) else handle.read(30))

    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, server.accept(10):
            waiting = [await begin(wait(server)), await begin(wait(conn))]
            loop = asyncio.get_running_loop()
            for task, handle in zip(waiting, (server, conn)):
                await cancel(task)
                with pytest.raises(ipcio.Invalid, match="another event loop"):
                    await loop.run_in_executor(None, asyncio.run, wait(handle))
                await cancel(await begin(wait(handle)))

    run(main())


def test_a_loop_after_another(run, address):
    server = aio.listen(address)

    async def main():
        accepting = await begin(server.accept())
        async with aio.connect(address, 10) as conn, await accepting as other:
            await other.write(b"x")
            assert await conn.read(10) == b"x"

    run(main())
    run(main())
    server.close()


def test_a_loop_that_ends_while_tasks_wait(run, address):
    async def main():
        server, waiting = aio.listen(address), []
        conn = await aio.connect(address, 10)
        for coroutine in server.accept(), server.accept(), conn.write(bytes(16 << 20)), aio.connect(address + "-nobody"):
            waiting.append(asyncio.ensure_future(coroutine))
        await asyncio.sleep(0)
        return waiting

    assert all(task.done() for task in run(main()))


def test_the_loop_watches_nothing_once_all_is_closed(run, echo):
    async def main():
        before = len(os.listdir("/proc/self/fd"))
        conn = await aio.connect(echo, 10)
        await conn.call(b"x", 10)
        conn.close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())


# ------------------------------------------------------------------------------------------ serving

CLIENT = """
    with ipcio.connect(arguments[0], 30) as conn:
        for i in range(100):
            answer = conn.call(f"{arguments[1]} {i}".encode(), 30)
            assert answer == f"hello {arguments[1]} {i}".encode(), answer
    """


async def hello(request, conn):
    await asyncio.sleep(0)
    return b"hello " + request


async def finish(scripts):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, each.finish) for each in scripts))


@pytest.mark.parametrize("handler", [hello, lambda request, conn: b"hello " + request], ids=["async", "plain"])
def test_clients_of_other_processes(run, script, address, handler):
    async def main():
        async with aio.listen(address) as server:
            clients = [script(CLIENT, address, number) for number in range(3)]
            serving = asyncio.create_task(server.serve(handler))
            await finish(clients)
            server.stop()
            await serving

    run(main())


def test_clients_of_other_processes_by_hand(run, script, address):
    async def converse(conn):
        async with conn:
            async for request in conn:
                await conn.write(b"hello " + request)

    async def main():
        async with aio.listen(address) as server:
            clients = [script(CLIENT, address, number) for number in range(3)]
            ending = asyncio.create_task(finish(clients))
            ending.add_done_callback(lambda _: server.stop())
            conversations = [asyncio.create_task(converse(conn)) async for conn in server]
            await asyncio.gather(ending, *conversations)
            assert len(conversations) == 3

    run(main())


def test_a_lua_client(run, address):
    if not shutil.which("lua5.4") or subprocess.run(["lua5.4", "-e", 'require "ipcio"'], capture_output=True).returncode:
        pytest.skip("the Lua module is not there")
    code = f"""
        local ipcio = require "ipcio"
        local conn <close> = assert(ipcio.connect("{address}", 30))
        for i = 1, 100 do assert(assert(conn:call("Lua " .. i, 30)) == "hello Lua " .. i) end
        """

    async def main():
        async with aio.listen(address) as server:
            serving = asyncio.create_task(server.serve(hello))
            client = await asyncio.get_running_loop().run_in_executor(
                None, lambda: subprocess.run(["lua5.4", "-e", code], capture_output=True, text=True))
            assert (client.returncode, client.stderr) == (0, "")
            server.stop()
            await serving

    run(main())


@pytest.fixture
def serve(address, in_thread):
    """serve(main, handler, ...): runs main(server) while the server is served, and ends that."""
    async def serve(main, handler, *arguments, **options):
        async with aio.listen(address, **options) as server:
            serving = asyncio.create_task(server.serve(handler, *arguments))
            try:
                await main(server)
            finally:
                server.stop()
                await serving

    return serve


def test_handlers_of_different_clients_run_side_by_side(run, serve):
    async def main(server):
        async with aio.connect(server.address, 10) as slow, aio.connect(server.address, 10) as other:
            waiting = await begin(slow.call(b"wait"))
            for _ in range(10):
                assert await other.call(b"x", 10) == b"x"
            assert not waiting.done()
            assert await other.call(b"go", 10) == b"go"
            assert await waiting == b"wait"

    async def scenario():
        go = asyncio.Event()

        async def handler(request, conn):
            if request == b"wait":
                await go.wait()
            elif request == b"go":
                go.set()
            return request

        await serve(main, handler)

    run(scenario())


def test_requests_of_one_client_are_answered_in_order(run, serve):
    async def handler(request, conn):
        for _ in range(int(request)):
            await asyncio.sleep(0)
        return request

    async def main(server):
        async with aio.connect(server.address, 10) as conn:
            requests = [b"50", b"10", b"0", b"20"]
            for request in requests:
                await conn.write(request)
            assert [await conn.read(10) for _ in requests] == requests

    run(serve(main, handler))


def test_a_handler_keeps_what_it_knows_of_each_client(run, serve):
    asked = weakref.WeakKeyDictionary()

    async def handler(request, conn):
        asked[conn] = asked.get(conn, b"") + request
        return asked[conn]

    async def main(server):
        async with aio.connect(server.address, 10) as one, aio.connect(server.address, 10) as other:
            assert [await conn.call(b"x", 10) for conn in (one, other, one)] == [b"x", b"x", b"xx"]

    run(serve(main, handler))
    gc.collect()
    assert not asked


def test_answers(run, serve):
    async def handler(request, conn):
        if request == b"silence":
            return None
        if request == b"three":
            await conn.write(b"1")
            await conn.write(b"2")
            return b"3"
        if request == b"more":
            return b"more: " + await conn.read()
        return memoryview(bytearray(request))

    async def main(server):
        async with aio.connect(server.address, 10) as conn:
            await conn.write(b"silence")
            assert await conn.call(b"", 10) == b""
            await conn.write(b"three")
            assert [await conn.read(10) for _ in range(3)] == [b"1", b"2", b"3"]
            await conn.write(b"more")
            await conn.write(b"x")
            assert await conn.read(10) == b"more: x"
            assert await conn.call(bytes(8 << 20), 30) == bytes(8 << 20)

    run(serve(main, handler))


@pytest.mark.parametrize("reporting", ["plain", "async"])
@pytest.mark.parametrize("wrong", [ValueError("it failed"), "text", 1, bytes(1001)],
                         ids=["raised", "str", "int", "too big"])
def test_a_handlers_error_closes_that_client_only(run, serve, wrong, reporting):
    errors = []

    async def handler(request, conn):
        if request == b"fail" and isinstance(wrong, Exception):
            raise wrong
        return wrong if request == b"fail" else request

    def on_error(error, conn):
        errors.append((error, conn))

    async def async_on_error(error, conn):
        await asyncio.sleep(0)
        errors.append((error, conn))

    async def main(server):
        async with aio.connect(server.address, 10) as good, aio.connect(server.address, 10) as bad:
            assert await good.call(b"1", 10) == b"1"
            with pytest.raises(ipcio.Closed):
                await bad.call(b"fail", 10)
            assert await good.call(b"2", 10) == b"2"

    run(serve(main, handler, on_error if reporting == "plain" else async_on_error, limit=1000))
    ((error, conn),) = errors
    assert error is wrong if isinstance(wrong, Exception) else isinstance(error, (TypeError, ipcio.TooBig))
    assert not isinstance(error, TypeError) or f"answered a value of type {type(wrong).__name__}; " in str(error)
    assert isinstance(conn, aio.Connection)
    errors.clear()


def test_without_on_error_it_is_told_where_the_handler_failed(run, serve, address, capfd):
    async def handler(request, conn):
        raise ValueError("it failed")

    async def main(server):
        async with aio.connect(server.address, 10) as conn:
            with pytest.raises(ipcio.Closed):
                await conn.call(b"x", 10)

    run(serve(main, handler))
    first, second, *trace = capfd.readouterr().err.splitlines()
    assert first == f"{address}: the handler failed: ValueError: it failed"
    assert second == "Traceback (most recent call last):"
    assert f'  File "{__file__}", line {handler.__code__.co_firstlineno + 1}, in handler' in trace


def test_what_a_client_does_wrong_is_told(run, capfd):
    async def main():
        async with aio.listen("tcp://127.0.0.1:0", framing="line", limit=10) as server:
            serving = asyncio.ensure_future(server.serve(lambda request, conn: request))
            answers, client = await asyncio.open_connection("127.0.0.1", int(server.address.rpartition(":")[2]))
            client.write(b"this is too long\nshort\n")  # the client goes on
            assert await answers.readline() == b"short\n"
            client.close()
            server.stop()
            await serving
            assert capfd.readouterr().err == \
                f"{server.address}: a message of 16 bytes came and was dropped; the limit is 10\n"

    run(main())


@pytest.mark.parametrize("way", ["close", "stop"])
def test_a_server_that_ends_in_on_error_begins_no_other_request(run, way):
    async def main():
        heard, told = [], []

        async def on_error(error, conn):
            getattr(server, way)()
            told.append("begun")
            await asyncio.sleep(0)
            told.append("ended")

        async with aio.listen("tcp://127.0.0.1:0", framing="line", limit=10) as server:
            serving = asyncio.ensure_future(server.serve(lambda request, conn: heard.append(request), on_error))
            _, client = await asyncio.open_connection("127.0.0.1", int(server.address.rpartition(":")[2]))
            client.write(b"one\nthis is too long\nlast\n")
            await serving
            client.close()
        assert heard == [b"one"]
        assert told == ["begun", "ended"][:2 if way == "stop" else 1]

    run(main())


def test_without_a_standard_error_serve_goes_on(run, serve, no_stderr, monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", no_stderr)

    async def handler(request, conn):
        return request if request else 1 // 0

    async def main(server):
        async with aio.connect(server.address, 10) as good, aio.connect(server.address, 10) as bad:
            with pytest.raises(ipcio.Closed):
                await bad.call(b"", 10)
            assert await good.call(b"x", 10) == b"x"

    run(serve(main, handler))
    assert capfd.readouterr() == ("", "")


def test_an_error_in_on_error_ends_serve(run, address):
    def on_error(error, conn):
        raise error

    async def main():
        async with aio.listen(address) as server:
            serving = asyncio.create_task(server.serve(lambda request, conn: 1 // 0, on_error))
            async with aio.connect(address, 10) as first, aio.connect(address, 10) as second:
                with pytest.raises(ipcio.Closed):
                    await first.call(b"x", 10)
                with pytest.raises(ZeroDivisionError):
                    await serving
                with pytest.raises(ipcio.Closed):
                    await second.read(10)

    run(main())


def test_what_is_no_handler(run, address):
    async def main():
        async with aio.listen(address) as server:
            for wrong in None, 1, "handler":
                with pytest.raises(TypeError):
                    await server.serve(wrong)
            with pytest.raises(TypeError):
                await server.serve(hello, 1)

    run(main())


def test_a_second_serve_is_refused(run, serve):
    async def main(server):
        async with aio.connect(server.address, 10) as conn:
            assert await conn.call(b"x", 10) == b"hello x"
            with pytest.raises(ipcio.Invalid):
                await server.serve(hello)
            with pytest.raises(ipcio.Invalid):
                await server.accept()
            assert await conn.call(b"y", 10) == b"hello y"

    run(serve(main, hello))


def test_a_lack_of_descriptors_ends_nothing(script, address):
    script("""
        import asyncio, resource
        from ipcio import aio
        async def main():
            async with aio.listen(arguments[0]) as server:
                serving = asyncio.create_task(server.serve(lambda request, conn: request))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                most = max(map(int, os.listdir("/proc/self/fd"))) + 6
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                tell("ready")
                await serving
        asyncio.run(main())
        """, address).expect("ready")
    clients = [ipcio.connect(address, 10) for _ in range(20)]
    for conn in clients:
        conn.write(b"x")
    for conn in clients:
        assert conn.read(30) == b"x"
        conn.close()


# ------------------------------------------------------------------------------------------ ending


class Slow:
    """A handler that waits; it says when it has begun and how it ended."""

    def __init__(self):
        self.begun, self.go, self.ended = asyncio.Event(), asyncio.Event(), []

    async def __call__(self, request, conn):
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append(request)
        return request


def test_stop_lets_handlers_finish(run, address):
    async def main():
        slow = Slow()
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, aio.connect(address, 10) as idle:
            serving = asyncio.create_task(server.serve(slow))
            await conn.write(b"begun")
            await conn.write(b"not begun")
            await slow.begun.wait()
            server.stop()
            server.stop()
            async with aio.connect(address, 10) as late:
                await late.write(b"late")
                with pytest.raises(ipcio.Closed):  # nobody is read from any more
                    await idle.read(30)
                assert not serving.done()
                slow.go.set()
                await serving
                assert await conn.read(10) == b"begun"
                with pytest.raises(ipcio.Closed):
                    await conn.read(10)
                assert slow.ended == [b"begun"]
                with pytest.raises(ipcio.Exists):  # the name stays
                    aio.listen(address)
                serving = asyncio.create_task(server.serve(hello))  # and the queue
                assert await late.read(10) == b"hello late"
                server.stop()
                await serving

    run(main())


def test_stop_in_a_handler_is_heeded_at_once(run, address):
    handled = []

    async def main():
        async with aio.listen(address) as server:
            conns = [await aio.connect(address, 10) for _ in range(20)]
            for conn in conns:
                await conn.write(b"x")

            def handler(request, conn):
                handled.append(request)
                server.stop()
                return request

            await server.serve(handler)
            server.close()  # and the queue goes
            assert [answer for conn in conns async for answer in conn] == handled == [b"x"]
            for conn in conns:
                conn.close()

    run(main())


def test_close_gives_handlers_up(run, address):
    async def main():
        slow = Slow()
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, aio.connect(address, 10) as idle:
            serving = asyncio.create_task(server.serve(slow))
            await conn.write(b"x")
            await slow.begun.wait()
            server.close()
            await serving
            assert slow.ended == ["cancelled"]
            for each in conn, idle:
                with pytest.raises(ipcio.Closed):
                    await each.read(10)
            with pytest.raises(ipcio.Missing):
                await aio.connect(address, 0)

    run(main())


def test_close_after_stop(run, address):
    async def main():
        slow = Slow()
        async with aio.listen(address) as server, aio.connect(address, 10) as conn, aio.connect(address, 10) as idle:
            serving = asyncio.create_task(server.serve(slow))
            await conn.write(b"x")
            await slow.begun.wait()
            server.stop()
            with pytest.raises(ipcio.Closed):
                await idle.read(30)
            assert not serving.done()
            server.close()
            await serving
            assert slow.ended == ["cancelled"]

    run(main())


def test_close_in_a_handler(run, address):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn:
            def handler(request, conn):
                server.close()
                return b"last"

            serving = asyncio.create_task(server.serve(handler))
            assert await conn.call(b"x", 10) == b"last"
            await serving

    run(main())


def test_a_client_that_does_not_take_its_last_answer(run, address, monkeypatch):
    monkeypatch.setattr(aio, "GRACE", 0.05)

    async def main():
        async with aio.listen(address) as server:
            async with aio.connect(address, 10) as first, aio.connect(address, 10) as second:
                writing, go = asyncio.Event(), asyncio.Event()

                async def handler(request, conn):
                    if request == b"later":
                        await go.wait()
                    writing.set()
                    return bytes(16 << 20)

                serving = asyncio.create_task(server.serve(handler))
                await second.write(b"later")
                await first.write(b"now")
                await writing.wait()
                server.stop()
                go.set()
                await serving
                for conn in first, second:
                    with pytest.raises(ipcio.Closed):
                        await conn.read(30)

    run(main())


def test_cancelling_serve(run, address):
    async def main():
        slow = Slow()
        async with aio.listen(address) as server:
            serving = asyncio.create_task(server.serve(slow))
            async with aio.connect(address, 10) as conn:
                await conn.write(b"x")
                await slow.begun.wait()
                await cancel(serving)
                assert slow.ended == ["cancelled"]
                with pytest.raises(ipcio.Closed):
                    await conn.read(10)
            serving = asyncio.create_task(server.serve(hello))
            async with aio.connect(address, 10) as conn:
                assert await conn.call(b"again", 10) == b"hello again"
            server.stop()
            await serving

    run(main())


def test_a_stop_ends_with_the_serve_that_is_cancelled(run, address):
    async def main():
        async with aio.listen(address) as server:
            serving = await begin(server.serve(hello))
            server.stop()
            await cancel(serving)
            serving = await begin(server.serve(hello))
            async with aio.connect(address, 10) as conn:
                assert await conn.call(b"again", 10) == b"hello again"
            server.stop()
            await serving

    run(main())


def test_stop_before_serve_and_on_a_closed_server(run, address):
    async def main():
        server = aio.listen(address)
        server.stop()
        await server.serve(hello)
        server.stop()
        with pytest.raises(ipcio.Interrupted):
            await server.accept()
        server.stop()
        assert [conn async for conn in server] == []
        server.close()
        await server.serve(hello)
        assert [conn async for conn in server] == []

    run(main())


def test_stop_from_another_thread(run, address, in_thread):
    async def main():
        async with aio.listen(address) as server, aio.connect(address, 10) as conn:
            serving = asyncio.create_task(server.serve(hello))
            assert await conn.call(b"x", 10) == b"hello x"
            in_thread(server.stop).result()
            await serving

    run(main())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_server(script, address, number):
    server = script("""
        import asyncio
        from ipcio import aio
        async def main():
            async with aio.listen(arguments[0]) as server:
                signal.signal(signal.SIGTERM, lambda *_: server.stop())
                async def handler(request, conn):
                    tell("begun")
                    os.kill(os.getpid(), int(arguments[1]))
                    await (asyncio.Event().wait() if int(arguments[1]) == signal.SIGINT else asyncio.sleep(0))
                    return request
                tell("ready")
                await server.serve(handler)
                tell("stopped")
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            tell("interrupted")
        """, address, int(number))
    server.expect("ready")
    with ipcio.connect(address, 10) as conn:
        if number == signal.SIGTERM:
            assert conn.call(b"x", 30) == b"x"
        with pytest.raises(ipcio.Closed):
            conn.call(b"y", 30)
    assert server.finish() == ["begun", "stopped" if number == signal.SIGTERM else "interrupted"]


def test_the_module_serves_an_address(script, address):
    server = script("""
        import asyncio
        from ipcio import aio
        async def answer(request, conn):
            if request == b"end":
                raise SystemExit
            return b"hello " + request
        asyncio.run(aio.serve(arguments[0], answer, limit=1000))
        """, address)
    with ipcio.connect(address, 10) as conn:
        assert conn.call(b"world", 10) == b"hello world"
        with pytest.raises(ipcio.TooBig):
            conn.write(bytes(1001))
        conn.write(b"end")
        with pytest.raises(ipcio.Closed):
            conn.read(10)
    assert server.finish() == []
