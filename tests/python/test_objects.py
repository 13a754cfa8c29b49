"""Connections and servers as objects."""
import array
import gc
import hashlib
import os
import select
import sys
import weakref

import ipcio
import pytest


def test_a_server_and_a_client_by_hand(script, address):
    server = script("""
        with ipcio.listen(arguments[0]) as server, server.accept(timeout=10) as conn:
            for request in conn:
                conn.write(b"hello " + request)
        tell("done")
        """, address)
    with ipcio.connect(address, timeout=10) as conn:
        assert conn.call(b"world", timeout=10) == b"hello world"
        conn.write(b"again")
        assert conn.read(timeout=10) == b"hello again"
    assert server.finish() == ["done"]


@pytest.mark.parametrize("data", [b"", b"\0", b"a\0b\0", bytes(range(256)), "grüße".encode()],
                         ids=["empty", "NUL", "NULs", "every byte", "UTF-8"])
def test_every_byte_passes(client, data):
    assert client.call(data, 10) == data


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 1 << 20, 5 << 20])
def test_sizes(client, size):
    data = hashlib.shake_128(str(size).encode()).digest(size)
    assert client.call(data, 30) == data


def test_messages_keep_their_bounds_and_order(client):
    messages = [b"x" * n for n in range(100)]
    for message in messages:
        client.write(message)
    assert [client.read(10) for _ in messages] == messages


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: array.array("B", data),
                                  lambda data: memoryview(b"--" + data)[2:], type("Bytes", (bytes,), {})],
                         ids=["bytes", "bytearray", "memoryview", "array", "slice", "subclass"])
def test_any_buffer_is_data(client, make):
    client.write(make(b"some data"))
    assert client.read(10) == b"some data"
    assert client.call(make(b"more data"), 10) == b"more data"
    client.write_start(9)
    client.write_buffer(make(b"all parts"))
    client.write_end()
    assert client.read(10) == b"all parts"


def test_an_array_of_wide_items_counts_bytes(client):
    numbers = array.array("d", [1.0, 2.0, 3.0])
    assert client.call(numbers, 10) == numbers.tobytes()


def test_what_is_read_is_bytes(client):
    assert type(client.call(bytearray(b"x"), 10)) is bytes


def test_arguments_by_name(client):
    client.write(data=b"1", timeout=10)
    assert client.read(timeout=10) == b"1"
    assert client.call(timeout=10, data=b"2") == b"2"
    client.write_start(1, timeout=10)
    client.write_buffer(b"3", timeout=10)
    client.write_end(timeout=10)
    assert client.read_start(timeout=10) == 1
    assert client.read_buffer(10, timeout=10) == b"3"
    assert client.read_buffer(10, timeout=10) == b""
    client.read_end(timeout=10)


def test_a_message_in_pieces(client):
    client.write_start(300_000)
    for _ in range(3):
        client.write_buffer(b"p" * 100_000)
    client.write_end()
    assert client.read_start(10) == 300_000
    pieces = []
    while piece := client.read_buffer(70_000, 10):
        assert len(piece) <= 70_000
        pieces.append(piece)
    client.read_end()
    assert b"".join(pieces) == b"p" * 300_000


@pytest.mark.parametrize("size", [2**40, sys.maxsize])
def test_a_piece_is_given_no_more_memory_than_it_may_need(client, size):
    data = hashlib.shake_128(b"").digest(3 << 20)
    client.write(data)
    assert client.read_start(10) == len(data)
    pieces = []
    while piece := client.read_buffer(size, 10):
        pieces.append(piece)
    client.read_end()
    assert b"".join(pieces) == data


def test_the_end_of_reading_drops_the_rest(client):
    client.write(b"first")
    client.write(b"second")
    assert client.read_start(10) == 5
    assert client.read_buffer(2, 10) == b"fi"
    client.read_end()
    assert client.read(10) == b"second"


def test_a_message_given_up_half_way_is_never_seen(client):
    client.write_start(10)
    client.write_buffer(b"half")
    with pytest.raises(ipcio.Invalid):
        client.write_end()
    assert client.call(b"whole", 10) == b"whole"


@pytest.mark.parametrize("call", [
    lambda conn: conn.read(0), lambda conn: conn.read(0.01), lambda conn: conn.read(timeout=0.01),
    lambda conn: conn.read_start(0), lambda conn: conn.read_start(0.01)])
def test_nothing_comes_in_time(client, call):
    with pytest.raises(ipcio.TimedOut) as caught:
        call(client)
    assert client.address in str(caught.value)
    assert client.call(b"still usable", 10) == b"still usable"


def test_no_client_comes_in_time(address):
    with ipcio.listen(address) as server:
        for timeout in (0, 0.01):
            with pytest.raises(ipcio.TimedOut):
                server.accept(timeout)


def test_nobody_serves_the_name(address):
    with pytest.raises(ipcio.Missing):
        ipcio.connect(address, 0)
    with pytest.raises(ipcio.TimedOut):
        ipcio.connect(address, 0.01)


def test_a_client_waits_for_its_server(script, address):
    client = script("""
        tell("starting")
        print(ipcio.connect(arguments[0], 10).call(b"early", 10).decode())
        """, address)
    client.expect("starting")
    client.until_asleep()
    with ipcio.listen(address) as server, server.accept(10) as conn:
        conn.write(conn.read(10))
        assert client.finish() == ["early"]


def test_the_late_answer_of_a_call_is_dropped(script, address):
    server = script("""
        with ipcio.listen(arguments[0]) as server, server.accept() as conn:
            first = conn.read()
            wait()
            conn.write(b"answer to " + first)
            for request in conn:
                conn.write(b"answer to " + request)
        """, address)
    with ipcio.connect(address, 10) as conn:
        with pytest.raises(ipcio.TimedOut):
            conn.call(b"1", 0.01)
        server.go()
        assert conn.call(b"2", 10) == b"answer to 2"
    server.finish()


def test_the_limit(script, address):
    server = script("""
        with ipcio.listen(arguments[0], limit=1000) as server:
            tell("ready")
            with server.accept() as conn:
                for request in conn:
                    conn.write(request)
        """, address)
    server.expect("ready")
    with ipcio.connect(address, 10) as conn:
        assert conn.call(bytes(1000), 10) == bytes(1000)
        for call in (lambda: conn.write(bytes(1001)), lambda: conn.call(bytes(1001)), lambda: conn.write_start(1001)):
            with pytest.raises(ipcio.TooBig):
                call()
        assert conn.call(bytes(1000), 10) == bytes(1000)
    server.finish()


def test_options(address):
    with ipcio.listen(address, limit=1000, buffer="4096") as server:
        with ipcio.connect(f"{address}?limit=10", 10, limit=None) as conn:
            with pytest.raises(ipcio.TooBig):
                conn.write(bytes(11))
            conn.write(bytes(10))
            server.accept(10).close()


def test_the_address_a_server_tells(tmp_path):
    """Leads to it, though with all that is encoded it has more bytes than a path may have."""
    folder = tmp_path.joinpath(*["&" * 200] * 7)
    folder.mkdir(parents=True)
    with ipcio.listen(f"pipe://{folder}/socket") as server:
        assert len(server.address) > 4095
        with ipcio.connect(server.address, 5) as conn:
            assert conn.address == server.address


def test_the_messages_end_when_the_peer_has_closed(script, address):
    client = script("""
        with ipcio.connect(arguments[0], 10) as conn:
            for word in arguments[1:]:
                conn.write(word.encode())
        """, address, "one", "two", "three")
    with ipcio.listen(address) as server, server.accept(10) as conn:
        assert list(conn) == [b"one", b"two", b"three"]
        assert list(conn.messages()) == []
        with pytest.raises(ipcio.Closed):
            conn.read()
    client.finish()


def test_a_connection_is_its_own_iterator(client):
    assert iter(client) is client and client.messages() is client
    client.write(b"x")
    assert next(client) == b"x"


def test_with_closes(address, script):
    with ipcio.listen(address) as server:
        with ipcio.connect(address, 10) as conn, server.accept(10) as other:
            assert repr(conn) == f"<ipcio.Connection {address}>"
            assert repr(server) == f"<ipcio.Server {address}>"
        for closed in (conn, other):
            with pytest.raises(ipcio.Invalid):
                closed.read(0)
    with pytest.raises(ipcio.Invalid):
        server.accept(0)
    with pytest.raises(ipcio.Missing):
        ipcio.connect(address, 0)


def test_with_lets_errors_pass(address):
    with pytest.raises(ZeroDivisionError), ipcio.listen(address):
        1 / 0


def test_a_dropped_connection_is_closed(script, address):
    peer = script("""
        conn = ipcio.connect(arguments[0], 10)
        try:
            conn.read(10)
        except ipcio.Closed:
            tell("closed")
        """, address)
    with ipcio.listen(address) as server:
        server.accept(10)
        gc.collect()
        peer.expect("closed")
    peer.finish()


def test_a_dropped_server_gives_its_name_back(address):
    ipcio.listen(address)
    gc.collect()
    ipcio.listen(address).close()


def test_a_connection_outlives_its_server(address):
    with ipcio.listen(address) as server, ipcio.connect(address, 10) as conn:
        other = server.accept(10)
        del server
        gc.collect()
        conn.write(b"x")
        assert other.read(10) == b"x"
        assert other.address == address
        other.close()


def test_a_live_name_is_taken_once(echo):
    with pytest.raises(ipcio.Exists):
        ipcio.listen(echo)
    with ipcio.connect(echo, 10) as conn:
        assert conn.call(b"x", 10) == b"x"


def test_the_peer(script, address):
    server = script("""
        with ipcio.listen(arguments[0]) as server, server.accept() as conn:
            tell(*conn.peer)
            wait()
        """, address)
    with ipcio.connect(address, 10) as conn:
        assert server.line() == f"{os.getpid()} {os.getuid()} {os.getgid()}"
        assert conn.peer == (server.pid, os.getuid(), os.getgid())
        assert conn.peer._fields == ("pid", "uid", "gid")
        assert repr(conn.peer).startswith("Peer(pid=")
        server.go()
        server.finish()


def test_the_addresses(echo):
    with ipcio.connect(echo + "?limit=100", 10) as conn:
        assert conn.address == echo
        with pytest.raises(AttributeError):
            conn.address = "pipe://other"


def test_a_path_is_an_address(script, directory, name):
    address = f"pipe://{directory}/{name}.sock"
    script("""
        with ipcio.listen(arguments[0]) as server:
            tell("ready")
            server.serve(lambda request, conn: request)
        """, address).expect("ready")
    with ipcio.connect(address, 10) as conn:
        assert conn.address == address and conn.call(b"x", 10) == b"x"


def test_names_in_other_scripts_and_with_signs(script, name):
    for sign in ("ü", "日本", "%26", "a/b", "a b"):
        with ipcio.listen(f"pipe://{name}{sign}") as server, ipcio.connect(f"pipe://{name}{sign}", 10) as conn:
            with server.accept(10) as other:
                conn.write(b"x")
                assert other.read(10) == b"x"
                assert server.address == conn.address == other.address == f"pipe://{name}{sign}"


def test_nothing_can_be_read_from_a_new_connection(client):
    assert not select.select([client], [], [], 0)[0]
    client.call(b"x", 10)
    assert not select.select([client], [], [], 0)[0]


def test_the_descriptors_are_level_triggered(client):
    client.call(b"first", 10)
    client.write(b"x")
    client.write(b"y")
    for message in (b"x", b"y"):
        for _ in range(2):
            assert select.select([client], [], [], 10)[0] == [client]
        assert client.read(0) == message
    assert not select.select([client], [], [], 0)[0]
    assert select.select([], [client.write_fileno()], [], 0)[1]


def test_the_descriptor_of_a_server(address):
    with ipcio.listen(address) as server:
        assert not select.select([server], [], [], 0)[0]
        with ipcio.connect(address, 10):
            assert select.select([server], [], [], 10)[0] == [server]
            server.accept(0).close()
            assert not select.select([server], [], [], 0)[0]


def test_weak_references(address):
    with ipcio.listen(address) as server, ipcio.connect(address, 10) as conn:
        kept, told = weakref.WeakKeyDictionary({server: "server", conn: "conn"}), []
        noticed = weakref.ref(conn, told.append)
        assert noticed() is conn and kept[conn] == "conn" and kept[server] == "server"
    del conn
    gc.collect()
    assert noticed() is None and told == [noticed] and list(kept.values()) == ["server"]


def test_the_module():
    assert ipcio.__version__ == ipcio.VERSION
    assert "pipe" in ipcio.transports()
    for name in ipcio.__all__:
        assert hasattr(ipcio, name)
