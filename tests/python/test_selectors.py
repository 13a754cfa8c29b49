"""The descriptors of connections and servers, for select, poll and epoll.  docs/design/lessons.md 8, 9, 10."""
import selectors

import ipcio
import pytest

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
KINDS = [getattr(selectors, name) for name in ("SelectSelector", "PollSelector", "EpollSelector")
         if hasattr(selectors, name)]

PEER = """
    with ipcio.listen(arguments[0]) as server:
        tell(server.address)
        with server.accept(30) as conn:
"""


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def selector(request):
    with request.param() as selector:
        yield selector


@pytest.fixture(params=[scheme for scheme in ("pipe", "tcp") if scheme in ipcio.transports()])
def way(request, address):
    """An address to listen at."""
    return address if request.param == "pipe" else "tcp://127.0.0.1:0"


def ready(selector, seconds=30):
    return {(key.data, events) for key, events in selector.select(seconds)}


def when_ready(selector, call, *arguments):
    """Repeats a call with a timeout of 0, as event loops do."""
    while True:
        assert ready(selector)
        try:
            return call(*arguments, timeout=0)
        except ipcio.TimedOut:
            pass


def fill(conn):
    """Writes until there is no room; returns how many messages of 4000 bytes that were."""
    count = 0
    while True:
        try:
            conn.write(bytes(4000), 0)
        except ipcio.TimedOut:
            return count
        count += 1


def test_a_message_for_as_long_as_it_is_not_read(selector, script, way):
    """Lesson 9 (pyzmq#1177): level-triggered, also for what was read ahead."""
    peer = script(PEER + """
            wait()
            for word in b"one", b"", b"three": conn.write(word)
            tell("written")
            wait()
        """, way)
    with ipcio.connect(peer.line(), 10) as conn:
        selector.register(conn, READ, "conn")
        assert ready(selector, 0) == set()
        peer.go()
        peer.expect("written")
        for word in b"one", b"", b"three":
            for _ in range(3):
                assert ready(selector) == {("conn", READ)}
            assert conn.read(30) == word
        assert ready(selector, 0) == set()


def test_a_long_message_bit_by_bit(selector, script, way):
    peer = script(PEER + """
            conn.write(bytes(8 << 20))
            wait()
        """, way)
    with ipcio.connect(peer.line(), 10) as conn:
        selector.register(conn.fileno(), READ, "conn")
        assert when_ready(selector, conn.read) == bytes(8 << 20)
        assert ready(selector, 0) == set()


def test_room_in_a_connection_that_is_full(selector, script, way):
    """Lesson 8 (libzmq#4660): all that was written arrives."""
    peer = script(PEER + """
            wait()
            for number, message in enumerate(conn, 1):
                if len(message) == 3: break
            tell(number)
        """, way)
    with ipcio.connect(peer.line(), 10) as conn:
        selector.register(conn.write_fileno(), WRITE, "room")
        assert ready(selector) == {("room", WRITE)}
        count = fill(conn)
        assert count
        assert ready(selector, 0) == set()
        peer.go()
        for _ in range(3):  # level-triggered as well
            assert ready(selector) == {("room", WRITE)}
        when_ready(selector, conn.write, b"end")
        peer.expect(str(count + 1))


def test_a_long_message_written_in_pieces(selector, script, way):
    peer = script(PEER + "            tell(len(conn.read()))", way)
    with ipcio.connect(peer.line(), 10) as conn:
        data = bytes(8 << 20)
        selector.register(conn.write_fileno(), WRITE, "room")
        when_ready(selector, conn.write_start, len(data))
        when_ready(selector, conn.write_buffer, data)
        when_ready(selector, conn.write_end)
        peer.expect(str(len(data)))


@pytest.mark.parametrize("full", [False, True], ids=["idle", "full"])
def test_the_peers_death(selector, script, way, full):
    """It is told to who waits to read and to who waits to write, behind what had come before."""
    peer = script(PEER + """
            conn.write(b"last words")
            tell("written")
            wait()
        """, way)
    with ipcio.connect(peer.line(), 10) as conn:
        peer.expect("written")
        if full:
            fill(conn)
            selector.register(conn.write_fileno(), WRITE, "room")
            assert ready(selector, 0) == set()
        else:
            assert conn.read(30) == b"last words"
        selector.register(conn.fileno(), READ, "conn")
        peer.kill()
        expected = {("conn", READ), ("room", WRITE)} if full else {("conn", READ)}
        while ready(selector) != expected:
            pass
        if full:
            with pytest.raises(ipcio.Closed):
                conn.write(b"x", 0)
            assert ready(selector, 0) == expected
            assert conn.read(0) == b"last words"
        with pytest.raises(ipcio.Closed):
            conn.read(0)
        assert ready(selector, 0) == expected  # the end stays


def test_clients_of_a_server(selector, script, way):
    with ipcio.listen(way) as server:
        selector.register(server, READ, "server")
        assert ready(selector, 0) == set()
        client = script("""
            with ipcio.connect(arguments[0], 30) as conn:
                tell(conn.call(b"x", 30).decode())
            """, server.address)
        with when_ready(selector, server.accept) as conn:
            selector.register(conn, READ, "conn")
            assert when_ready(selector, conn.read) == b"x"
            assert ready(selector, 0) == set()
            conn.write(b"answer")
            client.expect("answer")
            assert ready(selector) == {("conn", READ)}
            with pytest.raises(ipcio.Closed):
                conn.read(0)
