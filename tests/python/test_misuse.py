"""Wrong arguments, wrong objects, wrong order: always an error, never a crash."""
import copy
import gc
import inspect
import math
import pickle
import sys

import ipcio
import pytest
from ipcio import _core


@pytest.fixture
def server(name):
    with ipcio.listen(f"pipe://{name}-server") as server:
        yield server


METHODS = [(class_, name, method) for class_ in (ipcio.Connection, ipcio.Server, _core.Set)
           for name, method in inspect.getmembers(class_, inspect.isroutine)
           if name in vars(class_) and name != "__new__"]
METHOD_NAMES = [f"{class_.__name__}.{name}" for class_, name, _ in METHODS]


# ---- What SWIG's own types would let through


@pytest.mark.parametrize("class_", [ipcio.Connection, ipcio.Server, _core.Set])
class TestTypes:
    def test_no_object_without_a_handle(self, class_):
        for make in (class_, lambda: class_.__new__(class_), lambda: object.__new__(class_),
                     lambda: class_.__base__.__new__(class_), lambda: class_.__base__()):
            with pytest.raises(TypeError):
                make()

    def test_no_subclasses(self, class_):
        with pytest.raises(TypeError):
            type("Sub", (class_,), {})

    def test_the_type_cannot_be_changed(self, class_):
        for change in (lambda: setattr(class_, "extra", 1), lambda: delattr(class_, "__doc__"),
                       lambda: type.__setattr__(class_, "extra", 1)):
            with pytest.raises((TypeError, AttributeError)):
                change()

    def test_nothing_of_swig_shows(self, class_):
        for name in ("this", "thisown", "own", "disown", "acquire", "append", "next", "__dict__", "__int__"):
            assert name not in vars(class_) and name not in vars(class_.__base__)
        assert type(class_) is type


@pytest.mark.parametrize("class_, name, method", METHODS, ids=METHOD_NAMES)
@pytest.mark.parametrize("foreign", [object(), None, 0, b"", sys.stdout, type("SwigPyObject", (), {})()],
                         ids=["object", "None", "int", "bytes", "file", "namesake"])
def test_a_foreign_self(class_, name, method, foreign):
    with pytest.raises(TypeError):
        method(foreign)


def test_one_class_for_another(server):
    with ipcio.connect(server.address, 10) as conn:
        for wrong in (lambda: ipcio.Connection.read(server), lambda: ipcio.Server.accept(conn),
                      lambda: ipcio.Connection.address.fget(server), lambda: _core.Set.wait(conn)):
            with pytest.raises(TypeError):
                wrong()


@pytest.mark.parametrize("foreign", [object(), None, 1, "x", type("SwigPyObject", (), {})()])
def test_a_foreign_handle(server, foreign):
    some = _core.new_set()
    for call in (_core.key, _core.try_read, _core.try_accept, lambda handle: some.add(handle, 1), some.remove,
                 lambda handle: _core.try_write(handle, b"")):
        with pytest.raises(TypeError):
            call(foreign)
    with pytest.raises(TypeError):
        _core.try_read(server)
    with pytest.raises(TypeError):
        some.add(some, 1)


def test_an_object_takes_no_attributes(server):
    for name in ("extra", "read", "address", "__class__", "__dict__"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(server, name, 1)
    assert not hasattr(server, "__dict__")


def test_an_object_is_no_number(server):
    for convert in (int, float, bytes, hex):
        with pytest.raises(TypeError):
            convert(server)


def test_an_object_is_equal_to_itself_only(server):
    with ipcio.connect(server.address, 10) as conn:
        assert conn == conn and conn != server and conn != 1 and len({conn, conn, server}) == 2
        with pytest.raises(TypeError):
            conn < server


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickling(server, protocol):
    with pytest.raises(TypeError):
        pickle.dumps(server, protocol)


def test_no_copying(server):
    for make in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            make(server)


def test_init_again_changes_nothing(server):
    server.__init__()
    with pytest.raises(ipcio.TimedOut):
        server.accept(0)


@pytest.mark.parametrize("name", ["read", "write", "call", "messages", "read_start", "read_buffer", "read_end",
                                  "write_start", "write_buffer", "write_end", "fileno", "write_fileno", "close"])
def test_a_connections_methods_tell_their_signature(name):
    method = getattr(ipcio.Connection, name)
    assert list(inspect.signature(method).parameters)[0] == "self"
    assert inspect.getdoc(method)


@pytest.mark.parametrize("name", ["accept", "serve", "stop", "fileno", "close"])
def test_a_servers_methods_tell_their_signature(name):
    method = getattr(ipcio.Server, name)
    assert list(inspect.signature(method).parameters)[0] == "self"
    assert inspect.getdoc(method)


@pytest.mark.parametrize("name", [name for name in ipcio.__all__ if inspect.isroutine(getattr(ipcio, name))])
def test_functions_tell_their_signature(name):
    function = getattr(ipcio, name)
    assert inspect.signature(function)
    assert inspect.getdoc(function)


# ---- Arguments


@pytest.mark.parametrize("data", ["text", None, 1, 1.5, [1, 2], object()])
def test_what_is_no_data(client, data):
    for call in (client.write, client.call, client.write_buffer):
        with pytest.raises(TypeError, match="bytes-like"):
            call(data)
    assert client.call(b"still usable", 10) == b"still usable"


def test_a_view_with_gaps_is_no_data(client):
    with pytest.raises(BufferError):
        client.write(memoryview(b"abcd")[::2])


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_timeouts_that_are_none(client, server, timeout):
    for call in (lambda: client.read(timeout), lambda: client.write(b"", timeout), lambda: client.call(b"", timeout),
                 lambda: client.read_start(timeout), lambda: server.accept(timeout),
                 lambda: ipcio.connect(server.address, timeout)):
        with pytest.raises(ipcio.Invalid):
            call()


@pytest.mark.parametrize("timeout", ["1", b"1", [], object()])
def test_timeouts_of_wrong_type(client, server, timeout):
    for call in (lambda: client.read(timeout), lambda: client.write(b"", timeout), lambda: client.call(b"", timeout),
                 lambda: client.read_start(timeout), lambda: server.accept(timeout),
                 lambda: ipcio.connect(server.address, timeout)):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("timeout", [math.inf, 1e300, sys.float_info.max, 10**300])
def test_timeouts_that_are_for_ever(client, timeout):
    assert client.call(b"x", timeout) == b"x"


def test_counts_of_arguments(client):
    for call in (lambda: client.read(1, 2), lambda: client.write(), lambda: client.write(b"", 1, 2),
                 lambda: client.call(), lambda: client.call(b"", 1, 2), lambda: client.close(1),
                 lambda: client.read_buffer(), lambda: client.write_start()):
        with pytest.raises(TypeError):
            call()


def test_names_of_arguments(client):
    for call in (lambda: client.read(time=1), lambda: client.read(1, timeout=1), lambda: client.write(b"", data=b""),
                 lambda: client.write(timeout=1), lambda: client.call(b"", wait=1), lambda: client.read_start(time=1)):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("size", [-1, -10**30, 10**30])
def test_sizes_that_are_none(client, size):
    for call in (client.read_buffer, client.write_start):
        with pytest.raises(ipcio.Invalid):
            call(size)


@pytest.mark.parametrize("size", ["1", 1.0, None])
def test_sizes_of_wrong_type(client, size):
    for call in (client.read_buffer, client.write_start):
        with pytest.raises(TypeError):
            call(size)


BAD = ["", "greeter", "pipe:", "pipe:/x", "pipe://", "://x", "nothing://x", "PIPE://x", "pipe://a\0b", "pipe://a%00b",
       "pipe://%", "pipe://%zz", "pipe://" + "x" * 256, "pipe://\ud800", "pipe://\udcff", "pipe://x?", "pipe://x?limit",
       "pipe://x?limit=", "pipe://x?limit=0", "pipe://x?limit=-1", "pipe://x?limit=many", "pipe://x?limit=4294967296",
       "pipe://x?buffer=1", "pipe://x?nothing=1", "pipe://x?limit=1&", "\\\\.\\nothing\\x"]
HARMLESS = {"pipe://x?", "pipe://x?limit=1&"}  # an empty list of options, an empty option at its end


@pytest.mark.parametrize("address", [address for address in BAD if address not in HARMLESS])
def test_bad_addresses(address):
    for call in (lambda: ipcio.listen(address), lambda: ipcio.connect(address, 0),
                 lambda: ipcio.serve(address, lambda request, conn: None)):
        with pytest.raises((ipcio.Invalid, ipcio.Unsupported)):
            call()


@pytest.mark.parametrize("address", ["\\\\HOST\\pipe\\x", "pipe://Global\\x"])
def test_addresses_that_are_not_supported(address):
    for call in (lambda: ipcio.listen(address), lambda: ipcio.connect(address, 0)):
        with pytest.raises(ipcio.Unsupported):
            call()


@pytest.mark.parametrize("address", [None, b"pipe://x", 1, ["pipe://x"]])
def test_addresses_of_wrong_type(address):
    for call in (lambda: ipcio.listen(address), lambda: ipcio.connect(address, 0)):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": -1}, {"limit": "many"}, {"limit": 1.5}, {"limit": 2**32},
                                     {"buffer": 1023}, {"nothing": 1}, {"limit": "1&buffer=2"}, {"limit": "1\0"},
                                     {"a=b": 1}, {"limit": b"1"}, {"ü": 1}])
def test_bad_options(address, options):
    for call in (lambda: ipcio.listen(address, **options), lambda: ipcio.connect(address, 0, **options)):
        with pytest.raises(ipcio.Invalid):
            call()


def test_a_name_of_the_greatest_length(name):
    longest = name + "x" * (255 - len(name))
    ipcio.listen(f"pipe://{longest}").close()
    with pytest.raises(ipcio.Invalid):
        ipcio.listen(f"pipe://{longest}x")


# ---- The order of calls


def test_closing_twice(server):
    with ipcio.connect(server.address, 10) as conn:
        conn.close()
        conn.close()
    server.close()
    server.close()


USES = [lambda conn: conn.read(), lambda conn: conn.write(b""), lambda conn: conn.call(b""),
        lambda conn: conn.read_start(), lambda conn: conn.read_buffer(1), lambda conn: conn.read_end(),
        lambda conn: conn.write_start(1), lambda conn: conn.write_buffer(b""), lambda conn: conn.write_end(),
        lambda conn: conn.fileno(), lambda conn: conn.write_fileno(), lambda conn: conn.peer, next, list,
        _core.try_read, lambda conn: _core.new_set().add(conn, 1)]


@pytest.mark.parametrize("use", USES)
def test_use_after_close(server, use):
    conn = ipcio.connect(server.address, 10)
    conn.close()
    with pytest.raises(ipcio.Invalid, match="closed"):
        use(conn)
    assert conn.address == server.address and repr(conn)


@pytest.mark.parametrize("use", [lambda server: server.accept(), lambda server: server.fileno(),
                                 lambda server: _core.new_set().add(server, 1)])
def test_use_of_a_closed_server(server, use):
    server.close()
    with pytest.raises(ipcio.Invalid, match="closed"):
        use(server)
    assert server.address and repr(server)


def test_pieces_in_the_wrong_order(client):
    for call in (lambda: client.read_buffer(1), client.read_end, lambda: client.write_buffer(b"x"), client.write_end):
        with pytest.raises(ipcio.Invalid):
            call()
    client.write(b"xyz")
    assert client.read_start(10) == 3
    for call in (client.read, client.read_start, lambda: client.call(b"")):
        with pytest.raises(ipcio.Invalid):
            call()
    client.read_end()
    client.write_start(3)
    for call in (lambda: client.write(b""), lambda: client.write_start(3), lambda: client.write_buffer(b"four")):
        with pytest.raises(ipcio.Invalid):
            call()
    client.write_buffer(b"abc")
    client.write_end()
    assert client.read(10) == b"abc"


def test_nothing_is_leaked():
    def wrong(conn):
        for call in (lambda: conn.write("x"), lambda: conn.read(-1), lambda: conn.read(0),
                     lambda: conn.write(bytes(11)), lambda: conn.read_buffer(100),
                     lambda: ipcio.connect("pipe://" + "x" * 300)):
            with pytest.raises((ipcio.Error, TypeError)):
                call()

    with ipcio.listen(f"pipe://leak-{id(wrong)}") as server, ipcio.connect(server.address, 10, limit=10) as conn:
        wrong(conn)
        data, none = bytearray(b"x"), sys.getrefcount(None)
        for _ in range(100):
            wrong(conn)
            conn.write(data)
        data.append(1)  # nobody holds it any more
        gc.collect()
        assert abs(sys.getrefcount(None) - none) < 50
