"""The calls of AutoIt's IPC_IO."""
import os
import sys
import threading

import ipcio
import pytest
from ipcio import (CloseConnection, EndConnection, InitConnection, OpenConnection, ReadBuffer, ReadData, ReadEnd,
                   ReadSize, ReadStart, SleepInterval, StartConnection, StopConnection, WriteBuffer, WriteData,
                   WriteEnd, WriteSize, WriteStart, _autoit, cFile, cNamedPipe, cSharedMem)


@pytest.fixture
def opened():
    """Connections to be ended after the test, whatever state they are in."""
    made = []
    yield lambda iFD: made.append(iFD) or iFD
    for iFD in reversed(made):
        for end in (EndConnection, CloseConnection):
            try:
                end(iFD)
            except ipcio.Invalid:
                pass
    assert not _autoit._sleep_functions and not _autoit._waiting


@pytest.fixture
def pair(name, opened):
    """A server's connection and a client's, joined."""
    server = opened(InitConnection(cNamedPipe, name))
    client = opened(OpenConnection(cNamedPipe, name))
    StartConnection(server)
    return server, client


@pytest.fixture
def sleeping_pair(name, opened):
    """The same, with a sleep function in the client that calls what is put into the list."""
    server = opened(InitConnection(cNamedPipe, name))
    sleep = [lambda: None]
    client = opened(OpenConnection(cNamedPipe, name, True, lambda: sleep[-1]()))
    StartConnection(server)
    return server, client, sleep


def test_a_server_and_a_client(script, name, opened):
    server = script("""
        iFD = ipcio.InitConnection(ipcio.cNamedPipe, arguments[0], True)
        tell(iFD)
        for _ in range(2):
            ipcio.StartConnection(iFD)
            request = ipcio.ReadData(iFD)
            tell(ipcio.WriteData(iFD, b"hello " + request))
            ipcio.StopConnection(iFD)
        ipcio.EndConnection(iFD)
        """, name)
    assert int(server.line()) > 0
    for word in (b"world", b"again"):
        iFD = opened(OpenConnection(cNamedPipe, name))
        assert type(iFD) is int and iFD > 0
        assert WriteData(iFD, word) == 5
        assert ReadData(iFD) == b"hello " + word
        assert CloseConnection(iFD) is None
    assert server.finish() == ["11", "11"]


def test_without_arguments_they_meet(script):
    server = script("""
        iFD = ipcio.InitConnection()
        tell("ready")
        ipcio.StartConnection(iFD)
        ipcio.WriteData(iFD, ipcio.ReadData(iFD))
        """)
    server.expect("ready")
    iFD = OpenConnection()
    WriteData(iFD, b"x")
    assert ReadData(iFD) == b"x"
    CloseConnection(iFD)
    server.finish()


@pytest.mark.skipif("tcp" not in ipcio.transports(), reason="this build has no tcp")
def test_without_a_port_they_meet(script):
    """In a network of their own, since that port is the same for every test of a user."""
    server = script("""
        import ctypes, fcntl, socket, struct, subprocess
        NEWUSER, NEWNET, SETFLAGS, UP = 0x10000000, 0x40000000, 0x8914, 1
        libc = ctypes.CDLL(None)
        if libc.unshare(NEWNET) and libc.unshare(NEWUSER | NEWNET):
            tell("no network")
            sys.exit()
        with socket.socket() as any:
            fcntl.ioctl(any, SETFLAGS, struct.pack("16sh14x", b"lo", UP))
        iFD = ipcio.InitConnection(ipcio.cTCP)
        client = subprocess.Popen([sys.executable, "-c", "if True:" + '''
            import ipcio
            iFD = ipcio.OpenConnection(ipcio.cTCP)
            ipcio.WriteData(iFD, b"x")
            print(ipcio.ReadData(iFD).decode(), flush=True)
            '''])
        ipcio.StartConnection(iFD)
        ipcio.WriteData(iFD, ipcio.ReadData(iFD) + b"!")
        sys.exit(client.wait())
        """)
    told = server.finish()
    if told == ["no network"]:
        pytest.skip("this user may not make a network")
    assert told == ["x!"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_arguments_may_be_nothing(opened, nothing):
    opened(InitConnection(None, nothing, None, None, None))
    opened(OpenConnection(None, nothing, None, nothing, None))


def test_arguments_by_name(name, opened):
    opened(InitConnection(cType=cNamedPipe, ResourceName=name, bBlock=True, fSleepFunc=None, iBufSize=65536))
    iFD = opened(OpenConnection(iBufSize=1024, fSleepFunc=None, bBlock=True, ResourceName=name, cType=cNamedPipe))
    WriteData(iFD=iFD, sData=b"x")


def test_the_constants():
    assert [ipcio.cNamedPipe, ipcio.cFile, ipcio.cTCP, ipcio.cSharedMem, ipcio.cMailSlot] == list(range(5))
    assert ipcio.cDefaultType == ipcio.cNamedPipe
    assert ipcio.cDefaultBlocking is True
    assert ipcio.DEFAULT_BUFSIZE == 65536


def test_an_address_is_a_resource(address, name, opened):
    opened(InitConnection(cNamedPipe, address))
    opened(OpenConnection(cNamedPipe, name))
    opened(OpenConnection(cNamedPipe, f"\\\\.\\pipe\\{name}"))


def test_it_meets_the_objects(address, opened):
    server = opened(InitConnection(ResourceName=address))
    with ipcio.connect(address, 10) as conn:
        conn.write(b"to AutoIt")
        StartConnection(server)
        assert ReadData(server) == b"to AutoIt"
        WriteData(server, b"from AutoIt")
        assert conn.read(10) == b"from AutoIt"


@pytest.mark.parametrize("data", [b"", b"a\0b", bytes(range(256)), b"x" * 1_000_000],
                         ids=["empty", "NUL", "every byte", "much"])
def test_data(script, name, opened, data):
    script("""
        iFD = ipcio.InitConnection(ResourceName=arguments[0], iBufSize=1024)
        ipcio.StartConnection(iFD)
        ipcio.WriteData(iFD, ipcio.ReadData(iFD))
        wait()
        """, name)
    iFD = opened(OpenConnection(cNamedPipe, name, iBufSize=1024))
    assert WriteData(iFD, data) == len(data)
    assert ReadData(iFD) == data


def test_the_count_is_in_bytes(pair):
    server, client = pair
    assert WriteData(client, memoryview(b"12345678").cast("I")) == 8


def test_the_four_steps(pair):
    server, client = pair
    WriteStart(client)
    WriteSize(client, 10)
    WriteBuffer(client, b"01234")
    WriteBuffer(client, bytearray(b"56789"))
    WriteEnd(client)
    ReadStart(server)
    assert ReadSize(server) == 10
    pieces = [ReadBuffer(server, 4)]
    while pieces[-1]:
        pieces.append(ReadBuffer(server, 4))
    ReadEnd(server)
    assert b"".join(pieces) == b"0123456789"
    WriteData(server, b"answer")
    ReadStart(client)
    assert ReadSize(client) == 6 and ReadBuffer(client) == b"answer" and ReadBuffer(client) == b""
    ReadEnd(client)


def test_a_piece_may_be_asked_for_that_no_memory_holds(pair):
    server, client = pair
    WriteData(client, b"x" * 1000)
    ReadStart(server)
    assert ReadBuffer(server, 2**40) == b"x" * 1000
    assert ReadBuffer(server, sys.maxsize) == b""
    ReadEnd(server)


def test_the_peer_has_closed(pair):
    server, client = pair
    CloseConnection(client)
    with pytest.raises(ipcio.Closed):
        ReadData(server)
    StopConnection(server)


def test_an_open_waits_for_its_server(script, name, opened):
    client = script("""
        tell("starting")
        iFD = ipcio.OpenConnection(ResourceName=arguments[0])
        ipcio.WriteData(iFD, b"early")
        """, name)
    client.expect("starting")
    client.until_asleep()
    server = opened(InitConnection(ResourceName=name))
    StartConnection(server)
    assert ReadData(server) == b"early"
    client.finish()


# ---- Not blocking


def test_what_would_wait_raises_at_once(name, opened):
    with pytest.raises(ipcio.Missing):
        OpenConnection(cNamedPipe, name, False)
    server = opened(InitConnection(cNamedPipe, name, False))
    with pytest.raises(ipcio.TimedOut):
        StartConnection(server)
    client = opened(OpenConnection(cNamedPipe, name, False))
    StartConnection(server)
    for call in (lambda: ReadData(client), lambda: ReadStart(client), lambda: ReadData(server),
                 lambda: WriteData(client, bytes(16 << 20))):
        with pytest.raises(ipcio.TimedOut):
            call()
    StopConnection(server)


def test_what_need_not_wait_works(name, opened):
    server = opened(InitConnection(cNamedPipe, name, bBlock=False))
    client = opened(OpenConnection(cNamedPipe, name, bBlock=False))
    StartConnection(server)
    WriteData(client, b"x")
    assert ReadData(server) == b"x"


# ---- The sleep function


def test_the_sleep_function_is_called_while_a_call_waits(sleeping_pair):
    server, client, sleep = sleeping_pair
    calls = []

    def answer_in_the_end():
        calls.append(threading.get_ident())
        if len(calls) == 3:
            WriteData(server, b"at last")

    sleep.append(answer_in_the_end)
    assert ReadData(client) == b"at last"
    assert calls == [threading.get_ident()] * 3


@pytest.mark.parametrize("type", [cNamedPipe, cFile, cSharedMem])
def test_it_is_called_while_nobody_serves(name, type):
    calls = []
    with pytest.raises(ipcio.Interrupted):
        OpenConnection(type, name, True, lambda: calls.append(1) or len(calls) < 3)
    assert len(calls) == 3


def test_it_is_not_called_when_nothing_waits(sleeping_pair):
    server, client, sleep = sleeping_pair
    sleep.append(lambda: pytest.fail("it was called"))
    WriteData(server, b"x")
    assert ReadData(client) == b"x"


@pytest.mark.parametrize("call", [ReadData, ReadStart, lambda iFD: WriteData(iFD, bytes(16 << 20))],
                         ids=["ReadData", "ReadStart", "WriteData"])
def test_it_ends_a_wait_by_returning_false(sleeping_pair, call):
    server, client, sleep = sleeping_pair
    sleep.append(lambda: False)
    with pytest.raises(ipcio.Interrupted):
        call(client)
    sleep.append(lambda: None)
    reader = threading.Thread(target=lambda: WriteData(server, ReadData(server)))
    reader.start()
    WriteData(client, b"still usable")
    assert ReadData(client) == b"still usable"
    reader.join()


@pytest.mark.parametrize("value", [None, True, 0, "", 1])
def test_other_values_go_on(sleeping_pair, value):
    server, client, sleep = sleeping_pair
    calls = []

    def sleep_function():
        calls.append(1)
        if len(calls) == 2:
            WriteData(server, b"x")
        return value

    sleep.append(sleep_function)
    assert ReadData(client) == b"x"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, ipcio.Closed])
def test_it_ends_a_wait_by_raising(sleeping_pair, error):
    server, client, sleep = sleeping_pair

    def sleep_function():
        raise error("from the sleep function")

    sleep.append(sleep_function)
    with pytest.raises(error, match="from the sleep function"):
        ReadData(client)
    WriteData(server, b"x")
    assert ReadData(client) == b"x"


def test_it_may_close_its_connection(sleeping_pair):
    server, client, sleep = sleeping_pair
    sleep.append(lambda: CloseConnection(client))
    with pytest.raises(ipcio.Invalid):
        ReadData(client)


def test_it_ends_an_open(name, opened):
    for sleep_function, error in ((lambda: False, ipcio.Interrupted), (lambda: 1 / 0, ZeroDivisionError)):
        with pytest.raises(error):
            OpenConnection(cNamedPipe, name, True, sleep_function)
    assert not _autoit._sleep_functions


def test_it_ends_the_wait_for_a_client(name, opened):
    server = opened(InitConnection(cNamedPipe, name, True, lambda: False))
    with pytest.raises(ipcio.Interrupted):
        StartConnection(server)
    opened(OpenConnection(cNamedPipe, name))
    StartConnection(server)


def test_it_may_use_another_connection(name, opened):
    other = opened(InitConnection(cNamedPipe, name + "-other"))
    reached = []

    def sleep_function():
        client = OpenConnection(cNamedPipe, name + "-other")
        StartConnection(other)
        WriteData(client, b"nested")
        reached.append(ReadData(other))
        StopConnection(other)
        CloseConnection(client)
        return False

    server = opened(InitConnection(cNamedPipe, name, True, sleep_function))
    with pytest.raises(ipcio.Interrupted):
        StartConnection(server)
    assert reached == [b"nested"]


def test_the_sleep_interval(sleeping_pair):
    server, client, sleep = sleeping_pair
    assert SleepInterval(0) == 10
    try:
        assert SleepInterval(1) == 10 and SleepInterval(0) == 1
        for wrong in (-1, 1001):
            with pytest.raises(ipcio.Invalid):
                SleepInterval(wrong)
        sleep.append(lambda: False)
        with pytest.raises(ipcio.Interrupted):
            ReadData(client)
    finally:
        SleepInterval(10)


@pytest.mark.parametrize("function", [1, "function", object()])
def test_what_is_no_sleep_function(name, function):
    for call in (InitConnection, OpenConnection):
        with pytest.raises(TypeError):
            call(cNamedPipe, name, True, function)
    with pytest.raises(ipcio.Missing):
        OpenConnection(cNamedPipe, name, False)


# ---- Misuse


@pytest.mark.parametrize("call", [
    StartConnection, StopConnection, EndConnection, CloseConnection, ReadData, ReadStart, ReadSize, ReadBuffer, ReadEnd,
    WriteStart, WriteEnd, lambda iFD: WriteData(iFD, b""), lambda iFD: WriteSize(iFD, 1),
    lambda iFD: WriteBuffer(iFD, b"")])
def test_numbers_that_are_no_connection(call):
    for number in (0, -1, 2**31 - 1, 2**31, -10**30):
        with pytest.raises(ipcio.Invalid):
            call(number)
    for foreign in (None, "1", 1.0, object()):
        with pytest.raises(TypeError):
            call(foreign)


def test_a_number_is_never_given_twice(name, opened):
    numbers = []
    for _ in range(5):
        numbers.append(opened(InitConnection(cNamedPipe, name)))
        EndConnection(numbers[-1])
    assert sorted(set(numbers)) == numbers
    with pytest.raises(ipcio.Invalid):
        EndConnection(numbers[0])


def test_the_order_of_a_servers_calls(name, opened):
    server = opened(InitConnection(cNamedPipe, name))
    for call in (lambda: ReadData(server), lambda: WriteData(server, b""), lambda: StopConnection(server),
                 lambda: CloseConnection(server)):
        with pytest.raises(ipcio.Invalid):
            call()
    opened(OpenConnection(cNamedPipe, name))
    StartConnection(server)
    with pytest.raises(ipcio.Invalid):
        StartConnection(server)
    StopConnection(server)
    with pytest.raises(ipcio.Invalid):
        StopConnection(server)


def test_the_order_of_a_clients_calls(pair):
    server, client = pair
    for call in (StartConnection, StopConnection, EndConnection):
        with pytest.raises(ipcio.Invalid):
            call(client)


def test_the_order_of_the_steps(pair):
    server, client = pair
    for call in (lambda: ReadSize(client), lambda: ReadBuffer(client), lambda: ReadEnd(client),
                 lambda: WriteSize(client, 1), lambda: WriteBuffer(client, b""), lambda: WriteEnd(client)):
        with pytest.raises(ipcio.Invalid):
            call()
    WriteStart(client)
    with pytest.raises(ipcio.Invalid):
        WriteStart(client)
    WriteSize(client, 2)
    with pytest.raises(ipcio.Invalid):
        WriteBuffer(client, b"three")
    WriteBuffer(client, b"12")
    WriteEnd(client)
    assert ReadData(server) == b"12"


@pytest.mark.parametrize("arguments", [(9,), (-1,), (0, "x\0y"), (0, "x" * 300), (0, "nothing://x"),
                                       (0, None, True, None, 1), (0, None, True, None, -1)])
def test_bad_arguments(arguments):
    for call in (InitConnection, OpenConnection):
        with pytest.raises(ipcio.Invalid):
            call(*arguments)


@pytest.mark.parametrize("type_", [ipcio.cFile, ipcio.cTCP, ipcio.cSharedMem, ipcio.cMailSlot])
def test_types_of_other_transports(type_):
    schemes = dict(zip(range(5), ("pipe", "file", "tcp", "shm", "mailslot")))
    if schemes[type_] in ipcio.transports():
        EndConnection(InitConnection(type_))
    else:
        with pytest.raises(ipcio.Unsupported, match=schemes[type_]):
            InitConnection(type_)


@pytest.mark.parametrize("data", ["text", None, 1])
def test_what_is_no_data(pair, data):
    for call in (lambda: WriteData(pair[1], data), lambda: WriteBuffer(pair[1], data)):
        with pytest.raises(TypeError):
            call()


def test_a_second_server(name, opened):
    opened(InitConnection(cNamedPipe, name))
    with pytest.raises(ipcio.Exists):
        InitConnection(cNamedPipe, name)


def test_a_connection_on_which_a_thread_waits_is_not_closed(pair, in_thread):
    server, client = pair
    reader = in_thread(ReadData, client)
    while not _autoit._waiting:
        pass
    closing = 0
    while not closing:
        try:
            CloseConnection(client)
            pytest.fail("it was closed")
        except ipcio.Invalid as error:
            closing = "another thread" in str(error)
    WriteData(server, b"x")
    assert reader.result() == b"x"


def test_ctrl_c_in_an_open_leaves_nothing(script, name):
    process = script("""
        import signal
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        before = os.listdir("/proc/self/fd")
        try:
            ipcio.OpenConnection(ResourceName=arguments[0], fSleepFunc=lambda: None)
        except KeyboardInterrupt:
            tell(os.listdir("/proc/self/fd") == before)
        """, name)
    assert process.finish() == ["True"]
