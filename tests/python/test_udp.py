"""The transport udp from scripts: one connection for all senders, groups, event loops, and programs without ipcio."""
import asyncio
import os
import select
import shutil
import socket
import subprocess
import sys

import ipcio
import ipcio.aio
import pytest

LONG = 30
LONGEST = 65507 - 24

SERVER = """
    with ipcio.listen(arguments[0], **eval(arguments[1])) as server:
        tell(server.address)
        server.serve(lambda request, conn: b"%s from %s" % (request, conn.sender.encode()))
    """
CLIENT = """
    with ipcio.connect(arguments[0], timeout=30) as conn:
        answers = {conn.call(b"%d" % i, 30) for i in range(100)}
        own = {answer.split()[-1] for answer in answers}
        assert answers == {b"%d from %s" % (i, *own) for i in range(100)}, answers
        tell(*map(bytes.decode, own))
    """
MACHINE = """
    import subprocess
    def ip(*command): subprocess.run(["ip", *command], check=True)
    if ctypes.CDLL(None).unshare(0x40000000): sys.exit()  # a network of its own
    tell(os.getpid())
    wait()
    mine, number = arguments[:2]
    ip("link", "set", "lo", "up")
    if len(arguments) > 2:
        ip("link", "add", "name", "near", "type", "veth", "peer", "name", "far")
        ip("link", "set", "far", "netns", arguments[2])
    ip("link", "set", mine, "addrgenmode", "none")
    ip("addr", "add", f"10.9.8.{number}/24", "brd", "+", "dev", mine)
    ip("addr", "add", f"fe80::{number}/64", "dev", mine, "nodad")
    ip("link", "set", mine, "up")
    tell("wired")
    wait()
    """
FAR_SERVER = MACHINE + """
    def serve(address):
        with ipcio.listen(address, interface=mine) as server:
            tell(server.address)
            server.serve(lambda request, conn: server.stop() or b"%s from %s" % (request, conn.sender.encode()))
    with ipcio.listen("tcp://0.0.0.0:0", framing="line") as server:  # who is gone again, too
        tell(server.address)
        wait()
        with server.accept(30) as conn: tell(conn.read(30).decode())
    for address in arguments[3:]: serve(address)
    wait()
    """
FAR_CLIENT = MACHINE + """
    with ipcio.connect(sys.stdin.readline().strip(), timeout=30, framing="line") as conn: conn.write(b"gone")
    tell("left")
    for line in sys.stdin:
        with ipcio.connect(line.strip(), timeout=30, interface=mine) as conn:
            try: tell(conn.call(b"call", 30).decode(), "at", conn.sender)
            except ipcio.Closed: tell("closed")
    """
LUA_SERVER = """
    local ipcio = require "ipcio"
    local server <close> = assert(ipcio.listen("udp://0"))
    print(server:address())
    io.stdout:flush()
    local conn <close> = assert(server:accept(30))
    for request in conn:messages() do assert(conn:write(request .. " from " .. conn:sender())) end
    """


def is_readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


@pytest.fixture
def serve(script):
    """Starts a server that answers each request with it and its sender; gives its address."""
    def start(address="udp://0", **options):
        return script(SERVER, address, options).line()

    return start


@pytest.fixture
def run():
    """Starts programs; those that still run after the test are killed."""
    started = []

    def start(*command):
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        with process:
            pass


def test_clients_at_once(serve, script):
    address = serve()
    senders = {client.line() for client in [script(CLIENT, address) for _ in range(4)]}
    assert len(senders) == 4
    assert all(sender.startswith("udp://127.0.0.1:") for sender in senders)


def test_lua_server(run):
    lua = run("lua5.4", "-")
    lua.stdin.write(LUA_SERVER.encode())
    lua.stdin.close()
    with ipcio.connect(lua.stdout.readline().decode().strip(), LONG) as conn:
        sender = conn.call(b"request", LONG).removeprefix(b"request from ")
        assert sender.startswith(b"udp://127.0.0.1:")
        assert conn.call(b"again", LONG) == b"again from " + sender
        with pytest.raises(ipcio.Missing):
            ipcio.connect(sender.decode(), 0)  # a client hears nobody but its server


def test_too_long(serve):
    with ipcio.connect(serve(), LONG) as conn:
        with pytest.raises(ipcio.TooBig, match=f"65484 bytes is over udp's limit of {LONGEST}; nothing was sent"):
            conn.write(bytes(LONGEST + 1))
        assert conn.call(b"x" * 60000, LONG).startswith(b"x" * 60000)


def test_sender():
    with ipcio.listen("udp://0") as server, ipcio.connect(server.address, LONG) as client, server.accept(LONG) as conn:
        assert client.peer.uid >= 0
        with pytest.raises(ipcio.Unsupported):
            conn.peer
        with pytest.raises(ipcio.Missing):
            client.sender
        conn.write(b"who is there?")
        assert client.read(LONG) == b"who is there?"
        assert client.sender == server.address
    with pytest.raises(ipcio.Invalid):
        conn.sender


def test_group(serve):
    """Two servers hear what is written to a group once; to a call the first answer counts."""
    address = serve("udp://239.255.78.1:0", interface="lo")
    assert serve(address, interface="lo") == address
    with ipcio.connect(address, LONG, interface="lo", ttl=2) as conn:
        conn.write(b"all")
        answers = [conn.read(LONG), conn.read(LONG)]
        assert answers[0] == answers[1]
        for i in range(20):
            assert conn.call(b"%d" % i, LONG).startswith(b"%d from " % i)


def test_ipv6(serve):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    with ipcio.connect(serve("udp://[::1]:0"), LONG) as conn:
        assert conn.call(b"six", LONG).startswith(b"six from udp://[::1]:")
    port = serve("udp://[::]:0").rpartition(":")[2]
    with ipcio.connect(f"udp://127.0.0.1:{port}", LONG) as conn:
        assert conn.call(b"four", LONG).startswith(b"four from udp://[::ffff:127.0.0.1]:")


def test_broadcast(serve):
    port = serve("udp://0.0.0.0:0").rpartition(":")[2]
    with ipcio.connect(f"udp://127.255.255.255:{port}", LONG) as conn:
        assert conn.call(b"all", LONG).startswith(b"all from udp://127.0.0.1:")
        assert conn.sender == f"udp://127.0.0.1:{port}"


def test_two_machines(script):
    """Network namespaces with a wire between them: broadcast, groups, a port that nobody has; and tcp."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("only root can make networks, by ip")
    client = script(FAR_CLIENT, "far", 2)
    if not (pid := client.line()):
        pytest.skip("no network can be made here")
    server = script(FAR_SERVER, "near", 1, pid, "udp://0.0.0.0:0", "udp://0.0.0.0:0", "udp://239.255.78.2:0",
                    "udp://[ff02::4242]:0")
    assert server.line()
    for machine in server, client:
        machine.go()
        if machine.line() != "wired":
            pytest.skip("no network can be made here")
    client.go()
    server.go()

    def ask(address):
        client.process.stdin.write(address + "\n")
        client.process.stdin.flush()
        return client.line()

    assert ask("tcp://10.9.8.1:" + server.line().rpartition(":")[2]) == "left"
    server.go()
    assert server.line() == "gone"
    for host, mine, its in [("10.9.8.1", "10.9.8.2", "10.9.8.1"), ("10.9.8.255", "10.9.8.2", "10.9.8.1"),
                            ("239.255.78.2", "10.9.8.2", "10.9.8.1"),
                            ("[ff02::4242]", "[fe80::2%25near]", "[fe80::1%25far]")]:
        port = server.line().rpartition(":")[2]
        asked, _, sender, _, answered = ask(f"udp://{host}:{port}").split()
        assert (asked, sender.rpartition(":")[0], answered) == ("call", f"udp://{mine}", f"udp://{its}:{port}")
    assert ask("udp://10.9.8.1:9") == "closed"  # which only the answer to the call has told


def test_descriptors():
    """Level-triggered on both sides, and of the server only while it can accept."""
    with ipcio.listen("udp://0") as server:
        assert not is_readable(server.fileno())
        with ipcio.connect(server.address, LONG) as client:
            select.select([server.fileno()], [], [], LONG)
            with server.accept(0) as conn:
                assert not is_readable(server.fileno())
                client.write(b"one")
                client.write(b"two")
                for text in b"one", b"two":
                    assert select.select([conn.fileno()], [], [], LONG)[0]
                    assert conn.read(0) == text
                assert not is_readable(conn.fileno())
                assert select.select([], [conn.write_fileno()], [], LONG)[1]
                conn.write(b"three")
                assert select.select([client.fileno()], [], [], LONG)[0]
                assert is_readable(client.fileno())
                assert client.read(0) == b"three"
                assert not is_readable(client.fileno())


def test_asyncio():
    async def main():
        async with ipcio.aio.listen("udp://0") as server:
            task = asyncio.create_task(server.serve(lambda request, conn: b"%s %s" % (request, conn.sender.encode())))
            async with ipcio.aio.connect(server.address, LONG) as one, ipcio.aio.connect(server.address, LONG) as two:
                answers = await asyncio.gather(*(conn.call(b"%d" % i, LONG) for i, conn in enumerate((one, two))))
                assert [answer.split()[0] for answer in answers] == [b"0", b"1"]
                assert answers[0].split()[1] != answers[1].split()[1]
                assert one.sender == server.address
            server.stop()
            await task

    asyncio.run(main())


def test_iteration_ends_with_the_server(script):
    server = script("""
        with ipcio.listen("udp://0") as server:
            tell(server.address)
            with server.accept(30) as conn:
                conn.write(conn.read(30))
        """)
    with ipcio.connect(server.line(), LONG) as conn:
        assert conn.call(b"x", LONG) == b"x"
        server.finish()
        conn.write(b"anybody?")
        assert list(conn) == []
        with pytest.raises(ipcio.Closed, match="nobody has the port any more"):
            conn.write(b"x")


@pytest.mark.parametrize("program", ["nc", "socat"])
def test_foreign_clients(run, program):
    if not shutil.which(program):
        pytest.skip(f"there is no {program}")
    with ipcio.listen("udp://0", framing="line") as server:
        port = server.address.rpartition(":")[2]
        client = run(program, *(["-u", "127.0.0.1", port] if program == "nc" else ["-", f"UDP4:127.0.0.1:{port}"]))
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        with server.accept(LONG) as conn:
            assert conn.read(LONG) == b"hello"
            conn.write(b"you too")
            assert client.stdout.readline() == b"you too\n"


def test_foreign_server(run):
    if not shutil.which("socat"):
        pytest.skip("there is no socat")
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run("socat", f"UDP4-LISTEN:{port},bind=127.0.0.1", "PIPE")
    with ipcio.connect(f"udp://{port}?framing=raw", LONG) as conn:
        assert conn.call(b"a\0b", LONG) == b"a\0b"
        assert conn.call(bytes(8000), LONG) == bytes(8000)


def test_several_lines(run):
    """A datagram may hold several lines; its program is known while it lives."""
    program = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); " \
              "s.sendto(b'one\\ntwo\\n', ('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    with ipcio.listen("udp://0", framing="line") as server:
        run(sys.executable, "-c", program, server.address.rpartition(":")[2])
        with server.accept(LONG) as conn:
            assert [conn.read(LONG), conn.read(LONG)] == [b"one", b"two"]
