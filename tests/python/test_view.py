"""Messages read and written in place: views of a connection's memory, which never show what is not there any more."""
import asyncio
import ctypes
import gc
import os
import pickle
import sys

import ipcio
import pytest
from ipcio import _core, aio

LONG = 30


@pytest.fixture(params=["pipe", "tcp", "shm"])
def scheme(request):
    return request.param


@pytest.fixture
def at(scheme, name):
    return "tcp://127.0.0.1:0" if scheme == "tcp" else f"{scheme}://{name}"


@pytest.fixture
def both(at):
    with ipcio.listen(at) as server, ipcio.connect(server.address, LONG) as client, server.accept(LONG) as conn:
        yield client, conn


def is_shared(view):
    """Whether another process has the same memory."""
    at = ctypes.addressof(ctypes.c_char.from_buffer(view))
    with open("/proc/self/maps") as maps:
        for line in maps:
            bounds, permissions = line.split()[:2]
            first, end = (int(bound, 16) for bound in bounds.split("-"))
            if first <= at < end:
                return permissions[3] == "s"
    raise AssertionError("the view shows no memory")


# ---- Reading


def test_read_view(both):
    client, conn = both
    client.write(b"message")
    with conn.read_view(timeout=LONG) as view:
        assert (view.readonly, view.format, view.nbytes, bytes(view)) == (True, "B", 7, b"message")
        with pytest.raises(TypeError):
            view[0] = 1
    client.write(b"")
    assert bytes(conn.read_view(LONG)) == b""
    with pytest.raises(ipcio.TimedOut):
        conn.read_view(0)
    with pytest.raises(ipcio.Invalid):
        conn.read_view(-1)
    client.close()
    with pytest.raises(ipcio.Closed):
        conn.read_view(LONG)


def call(conn):
    conn.call(b"call", LONG)


READING = {
    "read": lambda conn: conn.read(LONG), "read_view": lambda conn: conn.read_view(LONG), "call": call,
    "next": next, "try_read": _core.try_read, "try_read_view": _core.try_read_view,
    "try_call": lambda conn: _core.try_call(conn, b"call"), "read_start": lambda conn: conn.read_start(LONG),
    "try_read_start": _core.try_read_start}


@pytest.mark.parametrize("reading", READING.values(), ids=READING)
def test_the_next_reading_call_ends_a_view(both, reading):
    client, conn = both
    for text in (b"first", b"second", b"third"):
        client.write(text)
    view = conn.read_view(LONG)
    conn.write(view)  # straight from there to anybody
    assert client.read(LONG) == b"first"
    part = view[1:3]
    with pytest.raises(BufferError, match="in use"):
        reading(conn)
    assert part.tobytes() == b"ir" and view == b"first"  # nothing was read
    part.release()
    reading(conn)
    with pytest.raises(ValueError, match="released"):
        view.tobytes()


def test_what_holds_a_view_keeps_it(both):
    client, conn = both
    client.write(b"first")
    client.write(b"second")
    view = conn.read_view(LONG)
    holder = pickle.PickleBuffer(view)
    for _ in range(2):
        with pytest.raises(BufferError, match=f"^{conn.address}: .*in use"):
            conn.read(LONG)
    assert bytes(view) == b"first"
    with pytest.raises(BufferError, match="in use"):  # an answer over what it answers
        conn.call(view, LONG)
    holder.release()
    assert conn.read(LONG) == b"second"
    client.write(b"third")
    del view, holder
    part = conn.read_view(LONG)[2:]
    gc.collect()
    with pytest.raises(BufferError):
        conn.read(0)
    del part
    with pytest.raises(ipcio.TimedOut):
        conn.read(0)


def test_another_thread_holds_a_view(both, in_thread, name):
    client, conn = both
    client.write(b"x" * 20000)
    view = conn.read_view(LONG)
    with ipcio.listen(f"shm://{name}-other?buffer=4096") as server:
        with ipcio.connect(server.address, LONG, buffer=4096) as other, server.accept(LONG) as reader:
            thread = in_thread(other.write, view)  # more than the ring holds
            assert reader.read_start(LONG) == 20000
            with pytest.raises(BufferError, match="in use"):
                conn.read(0)
            while reader.read_buffer(4096, LONG):
                pass
            thread.result()
    with pytest.raises(ipcio.TimedOut):
        conn.read(0)


def test_a_view_outlives_its_connection(both):
    client, conn = both
    client.write(b"x" * 10000)
    client.write(b"y")
    view = conn.read_view(LONG)
    client.close()
    conn.close()
    with pytest.raises(ipcio.Invalid):
        conn.read(0)
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_a_view_keeps_its_connection(at):
    with ipcio.listen(at) as server:
        client = ipcio.connect(server.address, LONG)
        conn = server.accept(LONG)
        client.write(b"x" * 10000)
        view, room = conn.read_view(LONG), client.write_view(10000)
        conn.close()
        client.close()
        del conn, client
        gc.collect()
        room[:] = view
        assert bytes(view) == bytes(room) == b"x" * 10000


@pytest.mark.parametrize("closed", [False, True])
def test_a_forked_child_has_the_memory_but_not_the_message(script, at, closed, python_leaks):
    process = script("""
        server = ipcio.listen(arguments[0])
        client = ipcio.connect(server.address, 30)
        conn = server.accept(30)
        client.write(b"x" * 10000)
        view, room = conn.read_view(30), client.write_view(10000)
        if arguments[1] == "True":
            client.close()
            conn.close()
        pid = os.fork()
        if pid == 0:
            seen = set(bytes(view))
            room[:] = b"y" * 10000
            room.release()
            view.release()
            for call in (conn.read_view, client.write_end):
                try:
                    call()
                except ipcio.Forked:
                    seen.add("forked")
            del conn, client
            os._exit(seen not in ({0, "forked"}, {ord("x"), "forked"}))
        tell(os.waitpid(pid, 0)[1], bytes(view) == b"x" * 10000)
        """, at, closed)
    process.expect("0 True")
    process.finish()


def test_views_leave_nothing(both):
    client, conn = both
    counts = sys.getrefcount(conn), sys.getrefcount(client)
    for _ in range(100):
        client.write_view(100)[:] = b"x" * 100
        client.write_end(LONG)
        assert conn.read_view(LONG)[99] == ord("x")
    view = conn, client = None, None
    del view


# ---- Writing


def test_write_view(both):
    client, conn = both
    for text in (b"message", b"", b"x" * 50000):
        with client.write_view(len(text), timeout=LONG) as room:
            assert (room.readonly, room.format, room.nbytes) == (False, "B", len(text))
            room[:] = text
        with pytest.raises(ipcio.TimedOut):
            conn.read(0)
        client.write_end(LONG)
        assert conn.read(LONG) == text


def test_only_shared_memory_is_shared(both, scheme):
    client, _ = both
    for length in (1, 10000, 1 << 20):
        assert is_shared(client.write_view(length)) == (scheme == "shm")
    assert not is_shared(client.write_view(5 << 20))


def test_the_end_ends_the_room(both):
    client, conn = both
    room = client.write_view(3)
    room[:] = b"abc"
    part = room[1:]
    with pytest.raises(BufferError, match="in use, so nothing was sent"):
        client.write_end(LONG)
    with pytest.raises(ipcio.Invalid, match="in place"):
        client.write_buffer(b"abc")
    with pytest.raises(BufferError, match="in use"):
        client.write_view(3)
    part[:] = b"xy"
    part.release()
    room[0:1] = b"z"  # it was not ended
    client.write_end(LONG)
    with pytest.raises(ValueError, match="released"):
        room[0] = 1
    assert conn.read(LONG) == b"zxy"
    with pytest.raises(ipcio.Invalid):
        client.write_end()


def test_given_up(both):
    client, conn = both
    first = client.write_view(5)
    for write in (lambda: client.write(b"no"), lambda: client.call(b"no"), lambda: client.write_start(2),
                  lambda: client.write_buffer(b"no"), lambda: client.send_file(0, b"no")):
        with pytest.raises(ipcio.Invalid):
            write()
    first[:] = b"first"  # they disturbed nothing
    second = client.write_view(6)
    with pytest.raises(ValueError, match="released"):
        first[0] = 1
    second[:] = b"second"
    client.write_end(LONG)
    assert conn.read(LONG) == b"second"
    client.write_view(5)[:] = b"third"
    client.close()
    with pytest.raises(ipcio.Invalid):
        client.write_end()
    with pytest.raises(ipcio.Closed):
        conn.read(LONG)


def test_lengths(both):
    client, _ = both
    for length in (-1, 1 << 70):
        with pytest.raises(ipcio.Invalid):
            client.write_view(length)
    with pytest.raises(TypeError):
        client.write_view("1")
    with pytest.raises(ipcio.TooBig):
        client.write_view((64 << 20) + 1)


def test_a_file_read_into_a_message(both, tmp_path):
    client, conn = both
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100)
    with open(path, "rb") as file, client.write_view(25600) as room:
        assert file.readinto(room) == 25600
    client.write_end(LONG)
    with open(path, "wb") as file, conn.read_view(LONG) as view:
        file.write(view)
    assert path.read_bytes() == bytes(range(256)) * 100


def test_nobody_else_has_the_memory(both):
    client, _ = both
    room = client.write_view(10)
    with pytest.raises(BufferError):
        memoryview(room.obj)
    with pytest.raises(TypeError):
        type(room.obj)()
    for handle in both:
        with pytest.raises(TypeError):
            memoryview(handle)


# ---- Two processes, asyncio


def test_large_messages_between_processes(script, scheme, at):
    process = script("""
        with ipcio.listen(arguments[0]) as server:
            tell(server.address)
            with server.accept(30) as conn:
                while True:
                    with conn.read_view(30) as view, conn.write_view(len(view), 30) as room:
                        room[:] = view
                    conn.write_end(30)
        """, at)
    with ipcio.connect(process.line(), LONG) as conn:
        for size in (1 << 20, 1, 3 << 20, 0, 1 << 20, 1 << 20):
            message = os.urandom(size)
            room = conn.write_view(size, LONG)
            assert is_shared(room) == (scheme == "shm" and size < 2 << 20) if size else True
            room[:] = message
            conn.write_end(LONG)
            with conn.read_view(LONG) as view:
                assert view == message


def test_asyncio(at):
    async def serve(server):
        async with server.accept(LONG) as conn:
            for _ in range(5):
                with await conn.read_view(LONG) as view, await conn.write_view(len(view), LONG) as room:
                    room[:] = view
                await conn.write_end(LONG)
            with pytest.raises(ipcio.Closed):
                await conn.read_view()

    async def main():
        async with aio.listen(at) as server:
            serving = asyncio.ensure_future(serve(server))
            async with aio.connect(server.address, LONG) as conn:
                view = None
                for size in (0, 1, 1 << 20, 5 << 20, 1 << 20):
                    message = os.urandom(size)
                    room = await conn.write_view(size)
                    room[:] = message
                    await conn.write_end()
                    with pytest.raises(ValueError, match="released"):
                        bytes(room)
                    part = view and view[:]
                    if part:
                        with pytest.raises(BufferError):
                            await conn.read_view()
                        part.release()
                    view = await conn.read_view()
                    assert view == message
                with pytest.raises(ipcio.TimedOut):
                    await conn.read_view(0.01)
                with pytest.raises(ValueError, match="released"):
                    bytes(view)
            await serving

    asyncio.run(main())
