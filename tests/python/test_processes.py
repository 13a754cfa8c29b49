"""Signals, forks and sudden deaths, each in a real process.  docs/design/lessons.md 2, 3, 5, 11, 14."""
import os
import shutil
import signal
import socket
import textwrap

import ipcio
import pytest


def opened(code):
    """The code, with both ends of a connection at hand."""
    return textwrap.dedent("""
        import signal, time
        server = ipcio.listen(arguments[0])
        other = ipcio.connect(arguments[0], 10)
        conn = server.accept(10)
        iFD = ipcio.InitConnection(ResourceName=arguments[0] + "-autoit")
        """) + textwrap.dedent(code)


WAITS = [
    "ipcio.connect(arguments[0] + '-nobody')", "ipcio.connect(arguments[0] + '-nobody', 60)", "server.accept()",
    "server.accept(60)", "conn.read()", "conn.read(60)", "next(conn)", "conn.write(bytes(64 << 20))",
    "conn.call(b'x')", "conn.call(b'x', 60)", "conn.read_start()", "server.serve(nothing)",
    "ipcio.serve(arguments[0] + '-other', nothing)", "ipcio.StartConnection(iFD)",
    "ipcio.OpenConnection(ResourceName=arguments[0] + '-nobody')",
    "ipcio.ReadData(client_of(iFD))", "ipcio.ReadData(client_of(iFD, nothing))",
    "ipcio.WriteData(client_of(iFD), bytes(64 << 20))", "ipcio.WriteData(client_of(iFD, nothing), bytes(64 << 20))",
]


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c(script, address, wait):
    process = script(opened(f"""
        nothing = lambda *arguments: None
        def client_of(iFD, fSleepFunc=None):
            client = ipcio.OpenConnection(ResourceName=arguments[0] + "-autoit", fSleepFunc=fSleepFunc)
            ipcio.StartConnection(iFD)
            return client
        tell("ready")
        try:
            {wait}
        except KeyboardInterrupt:
            tell("interrupted")
        """), address)
    process.expect("ready")
    process.until_asleep()
    os.kill(process.pid, signal.SIGINT)
    process.expect("interrupted")
    assert process.finish() == []


def test_ctrl_c_without_a_handler_ends_the_script(script, address):
    process = script("""
        os.close(2)
        tell("ready")
        ipcio.listen(arguments[0]).accept()
        """, address)
    process.expect("ready")
    process.until_asleep()
    os.kill(process.pid, signal.SIGINT)
    assert process.process.wait(10) == -signal.SIGINT


def test_the_connection_is_usable_after_ctrl_c(script, address):
    process = script(opened("""
        tell("ready")
        for wait in (conn.read, lambda: conn.write(bytes(64 << 20)), lambda: conn.call(b"x")):
            try:
                wait()
            except KeyboardInterrupt:
                tell("interrupted")
        reader = threading.Thread(target=lambda: [other.read(), other.write(b"z")])
        reader.start()
        conn.write(b"y")
        tell(conn.read(10))
        reader.join()
        """), address)
    process.expect("ready")
    for _ in range(3):
        process.until_asleep()
        os.kill(process.pid, signal.SIGINT)
        process.expect("interrupted")
    assert process.finish() == ["b'z'"]


def test_a_signal_that_does_not_raise_does_not_end_or_prolong_a_wait(script, address):
    process = script(opened("""
        signal.signal(signal.SIGALRM, lambda *_: tell("alarm"))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        start = time.monotonic()
        try:
            conn.read(0.3)
        except ipcio.TimedOut:
            signal.setitimer(signal.ITIMER_REAL, 0)
            passed = time.monotonic() - start
        tell("late" if passed > 5 else "early" if passed < 0.3 else "in time")
        """), address)
    *alarms, end = process.finish()
    assert end == "in time" and alarms and set(alarms) == {"alarm"}


def test_a_signal_handler_may_close_the_connection(script, address):
    process = script(opened("""
        signal.signal(signal.SIGALRM, lambda *_: conn.close())
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            conn.read()
        except ipcio.Invalid:
            tell("closed")
        """), address)
    assert process.finish() == ["closed"]


def test_a_forked_child_has_no_handles(script, address, python_leaks):
    """Lesson 11 (nng#1635, pynng#113)."""
    process = script(opened("""
        conn.fileno()
        some = ipcio._core.new_set()
        some.add(server, 1)
        calls = [lambda: conn.read(0), lambda: conn.write(b"x"), lambda: conn.call(b"x"), lambda: conn.peer,
                 lambda: next(conn), conn.fileno, conn.write_fileno, lambda: server.accept(0), server.fileno,
                 lambda: server.serve(print), lambda: some.wait(0), lambda: ipcio.StartConnection(iFD)]
        if os.fork() == 0:
            for call in calls:
                try:
                    call()
                    tell("no error")
                except ipcio.Forked:
                    tell("forked")
            sys.exit()
        os.wait()
        other.write(b"x")
        conn.write(conn.read(10))
        tell(other.read(10))
        third = ipcio.connect(arguments[0], 10)
        tell(server.accept(10).address == arguments[0])
        """), address)
    assert process.finish() == ["forked"] * 12 + ["b'x'", "True"]


def test_a_child_forked_while_another_thread_waits(script, address, python_leaks):
    process = script(opened("""
        reader = threading.Thread(target=conn.read)
        reader.start()
        refused = False
        while not refused:
            try:
                conn.read(0)
            except ipcio.TimedOut:
                pass
            except ipcio.Invalid:
                refused = True
        if os.fork() == 0:
            try:
                conn.read()
            except ipcio.Forked:
                tell("forked")
            os._exit(0)
        os.wait()
        other.write(b"x")
        reader.join()
        """), address)
    assert process.finish() == ["forked"]


def test_closing_and_ending_in_a_child_leave_the_parents_alone(script, address, python_leaks):
    process = script(opened("""
        if os.fork() == 0:
            for handle in (conn, other, server):
                handle.close()
            del conn, other, server
            sys.exit()
        tell(os.wait()[1])
        conn.write(b"x")
        tell(other.read(10))
        with ipcio.connect(arguments[0], 10), server.accept(10):
            tell("accepted")
        """), address)
    assert process.finish() == ["0", "b'x'", "accepted"]


def test_a_child_opens_handles_of_its_own(script, address, python_leaks):
    process = script(opened("""
        if os.fork() == 0:
            with ipcio.connect(arguments[0], 10) as mine:
                tell(mine.call(b"from the child", 10))
            sys.exit()
        with server.accept(10) as child:
            child.write(child.read(10))
        os.wait()
        """), address)
    assert process.finish() == ["b'from the child'"]


def test_a_killed_server_while_its_child_lives(script, address):
    server = script("""
        server = ipcio.listen(arguments[0])
        if os.fork() == 0:
            tell("child")
            wait()
            os._exit(0)
        conn = server.accept()
        tell("accepted")
        wait()
        """, address)
    server.expect("child")
    with ipcio.connect(address, 10) as conn:
        server.expect("accepted")
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ipcio.Closed):
            conn.read(10)
        server.process.wait()
        with ipcio.listen(address) as new, ipcio.connect(address, 10) as again, new.accept(10) as accepted:
            again.write(b"x")
            assert accepted.read(10) == b"x"
    server.go()


@pytest.mark.parametrize("doing", ["wait()", "conn.read()", "conn.write(bytes(64 << 20))", "list(conn)",
                                   "server.serve(lambda *_: None)"])
def test_a_killed_server(script, address, doing):
    """Lesson 2 (cpython#88304): the name is free again."""
    server = script(f"""
        server = ipcio.listen(arguments[0])
        conn = server.accept()
        tell("accepted")
        {doing}
        """, address)
    with ipcio.connect(address, 10) as conn:
        server.expect("accepted")
        server.until_asleep()
        server.kill()
        with pytest.raises(ipcio.Closed):
            conn.read(10)
        with pytest.raises(ipcio.Closed):
            conn.call(b"x", 10)
    ipcio.listen(address).close()


def test_what_a_killed_client_had_sent_is_read_first(script, address):
    """Lesson 3 (iceoryx#325): and no half message."""
    client = script("""
        conn = ipcio.connect(arguments[0], 10)
        conn.write(b"last words")
        tell("written")
        conn.write_start(100)
        conn.write_buffer(b"half a message")
        tell("half")
        wait()
        """, address)
    with ipcio.listen(address) as server, server.accept(10) as conn:
        client.expect("written")
        client.expect("half")
        client.kill()
        assert list(conn) == [b"last words"]


def test_nothing_is_inherited_by_exec(script, address):
    process = script(opened("""
        import subprocess
        conn.fileno()
        listing = subprocess.run([sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"],
                                 stdout=subprocess.PIPE, close_fds=False, text=True).stdout
        tell(listing.strip())
        """), address)
    plain = script("""
        import subprocess
        listing = subprocess.run([sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"],
                                 stdout=subprocess.PIPE, close_fds=False, text=True).stdout
        tell(listing.strip())
        """)
    assert process.finish() == plain.finish()


def test_clients_start_before_and_after_the_server(script, address):
    client = """
        with ipcio.connect(arguments[0], 60) as conn:
            tell(conn.call(arguments[1].encode(), 60).decode())
        """
    clients = [script(client, address, number) for number in range(20)]
    server = script("ipcio.serve(arguments[0], lambda request, conn: request)", address)
    clients += [script(client, address, number) for number in range(20, 40)]
    for number, each in enumerate(clients):
        assert each.finish() == [str(number)]
    server.kill()


def test_processes_race_for_a_name(script, address, directory, tmp_path):
    """Each time one of them has it, alone, and gives it back or is killed.  Lesson 5 (iceoryx2#1584, cpp-ipc#155):
    clearing up after the dead hits the living."""
    code = """
        import fcntl
        held = os.open(arguments[1], os.O_RDWR | os.O_CREAT)
        tell("ready")
        wait()
        for turn in range(40):
            server = None
            while server is None:
                try:
                    server = ipcio.listen(arguments[0])
                except ipcio.Exists:
                    pass
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another has the name, too
            with ipcio.connect(arguments[0], 0) as conn, server.accept(30) as other:
                conn.write(b"%d" % turn)
                assert other.read(30) == b"%d" % turn
            fcntl.flock(held, fcntl.LOCK_UN)
            if turn == int(arguments[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            server.close()
        tell("done")
        """
    racers = [script(code, address, tmp_path / "held", last) for last in (99, 99, 5, 10, 20, 30)]
    for racer in racers:
        racer.expect("ready")
    for racer in racers:
        racer.go()
    for racer, killed in zip(racers, [False] * 2 + [True] * 4):
        assert racer.line() == ("" if killed else "done")
        assert racer.process.wait() == (-signal.SIGKILL if killed else 0)
    ipcio.listen(address).close()
    assert [name for name in os.listdir(directory) if address.partition("://")[2] in name] == []


def test_the_folder_of_names_is_removed(script, tmp_path):
    """Lesson 14: as systemd does when a user has logged out (RemoveIPC).  What is connected goes on, the name is nobody's,
    and who had it takes it from no other."""
    code = """
        os.environ["IPCIO_DIR"] = arguments[0]
        server = ipcio.listen("pipe://name")
        tell("ready")
        conn = server.accept(30)
        for message in conn: conn.write(message + arguments[1].encode())
        server.close()
        tell("closed")
        """
    client = """
        os.environ["IPCIO_DIR"] = arguments[0]
        try:
            conn = ipcio.connect("pipe://name", 0)
        except ipcio.Missing:
            tell("missing")
            conn = ipcio.connect("pipe://name", 30)
        tell("connected")
        wait()
        tell(conn.call(b"", 30).decode())
        """
    folder = tmp_path / "names"
    first = script(code, folder, "first")
    first.expect("ready")
    one = script(client, folder)
    one.expect("connected")
    shutil.rmtree(folder)
    other = script(client, folder)
    other.expect("missing")
    second = script(code, folder, "second")
    second.expect("ready")
    one.go()
    assert one.finish() == ["first"]
    assert first.finish() == ["closed"]
    other.go()
    assert other.finish() == ["connected", "second"]
    assert second.finish() == ["closed"]


@pytest.mark.skipif("tcp" not in ipcio.transports(), reason="this build has no tcp")
def test_what_a_killed_server_told_its_clients_holds_no_more(script):
    """Its file in the folder of names still tells its limit, when another program has the port."""
    server = script("""
        with ipcio.listen("tcp://127.0.0.1:0", limit=10) as server:
            tell(server.address)
            server.accept()
        """)
    address = server.line()
    with ipcio.connect(address, 10, framing="line") as conn, pytest.raises(ipcio.TooBig):
        conn.write(b"x" * 11)
    server.kill()
    port = int(address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as other, ipcio.connect(address, 10, framing="line") as conn:
        accepted, _ = other.accept()
        with accepted:
            conn.write(b"x" * 11, 30)
            assert accepted.makefile("rb").readline() == b"x" * 11 + b"\n"
