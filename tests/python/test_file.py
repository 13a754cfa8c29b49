"""Open files that travel with messages."""
import os
import socket
import tempfile

import ipcio
import pytest

TAKER = """
    with ipcio.listen(arguments[0], files=True) as server:
        tell("ready")
        with server.accept(10) as conn:
            for request in conn:
                if request == b"count":
                    conn.write(b"%d" % len(os.listdir("/proc/self/fd")))
                elif request == b"die":
                    left, right = os.pipe()
                    os.write(right, b"left behind")
                    conn.send_file(left, request)
                    os.kill(os.getpid(), signal.SIGKILL)
                elif request == b"read":
                    fd = conn.take_file()
                    conn.write(os.read(fd, 4))
                    os.close(fd)
    """


@pytest.fixture
def conn(script, address):
    script(TAKER, address).expect("ready")
    with ipcio.connect(address, 10, files=True) as conn:
        yield conn


@pytest.fixture
def both(address):
    with ipcio.listen(address, files=True) as server, ipcio.connect(address, 10, files=True) as client:
        with server.accept(10) as conn:
            yield client, conn


@pytest.fixture
def digits():
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"0123456789")
        file.seek(0)
        yield file


def test_file_and_offset_are_shared(conn, digits):
    conn.send_file(digits, b"read")
    assert conn.read(10) == b"0123"
    assert digits.tell() == 4
    conn.send_file(digits.fileno(), data=b"read", timeout=10)
    assert conn.read(10) == b"4567"


def test_taken_from_one_who_was_killed(conn):
    assert conn.call(b"die", 10) == b"die"
    with os.fdopen(conn.take_file(), "rb") as file:
        assert not os.get_inheritable(file.fileno())
        assert file.read() == b"left behind"
    with pytest.raises(ipcio.Closed):
        conn.read(10)


def test_never_taken(conn, digits):
    before = conn.call(b"count", 10)
    for _ in range(1000):
        conn.send_file(digits)
    assert conn.call(b"count", 10) == before


def test_none_came(both, digits):
    client, conn = both
    for _ in range(2):
        with pytest.raises(ipcio.Missing):
            conn.take_file()
        client.write(b"without")
        assert conn.read(10) == b"without"
    client.send_file(digits)
    assert conn.read(10) == b""
    os.close(conn.take_file())
    with pytest.raises(ipcio.Missing):
        conn.take_file()


def test_in_pieces(both, digits, in_thread):
    client, conn = both
    sending = in_thread(client.send_file, digits, bytearray(1 << 20))
    assert conn.read_start(10) == 1 << 20
    fd = conn.take_file()
    assert os.read(fd, 3) == b"012"
    os.close(fd)
    conn.read_end(10)
    reading = in_thread(conn.read, 10)
    sending.result()
    client.write(b"on")
    assert reading.result() == b"on"


def test_a_socket_that_is_adopted(both):
    """A connection is handed on to another process."""
    client, conn = both
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client.send_file(theirs, b"socket")
    assert conn.read(10) == b"socket"
    with ipcio.connect(f"fd://{conn.take_file()}", framing="raw") as adopted, pytest.raises(ipcio.Closed):
        adopted.read(10)


def test_in_a_handler(script, address, digits):
    server = script("""
        def handler(request, conn):
            fd = conn.take_file()
            conn.send_file(fd, os.read(fd, 1))
            os.close(fd)
        with ipcio.listen(arguments[0], files=True) as server:
            tell("ready")
            server.serve(handler)
        """, address)
    server.expect("ready")
    with ipcio.connect(address, 10, files=True) as conn:
        conn.send_file(digits)
        assert conn.read(10) == b"0"
        with os.fdopen(conn.take_file(), "rb") as same:
            assert same.read(2) == b"12"


def test_misuse(both, digits):
    client, conn = both
    for file in ("digits", None, 1.5, object()):
        with pytest.raises(TypeError):
            client.send_file(file)
    with pytest.raises(ValueError):
        client.send_file(-1)
    with pytest.raises(ipcio.Invalid):
        client.send_file(1 << 20)
    with pytest.raises(TypeError):
        client.send_file(digits, "text")
    with pytest.raises(TypeError):
        client.send_file()
    with pytest.raises(ipcio.Invalid):
        client.send_file(digits, b"", -1)
    with tempfile.TemporaryFile() as closed:
        pass
    with pytest.raises(ValueError):
        client.send_file(closed)
    client.write(b"on")
    assert conn.read(10) == b"on"


def test_who_does_not_take_files(address, digits):
    with ipcio.listen(address) as server, ipcio.connect(address, 10) as client, server.accept(10) as conn:
        with pytest.raises(ipcio.Unsupported, match="files=1"):
            client.send_file(digits, b"x")
        with pytest.raises(NotImplementedError):
            conn.send_file(digits, b"x")
