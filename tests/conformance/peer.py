#!/usr/bin/env python3
"""One side of a conformance case, in Python: peer.py server|client ADDRESS CASE, or peer.py transports|cases.

A server prints "ready ADDRESS" once clients may come; each side ends with "ok CASE".  run.py says what a case is.
"""
import os
import signal
import sys
import tempfile
import threading

import ipcio

LONG = 30
SIZES = [0, 1, 256, 10240, 65000]  # one datagram holds the longest
LONG_SIZES = [65535, 65536, 65537, 1 << 20, 5 << 20]
CASES = {}


def pattern(size, seed):
    """Every byte value; the prime period shows pieces that were exchanged."""
    block = bytes(i & 255 for i in range(257))
    return (block * (size // 257 + 2))[seed:seed + size]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def expect(conn, message):
    got = conn.read(LONG)
    check(got == message, f"expected {len(message)} bytes {message[:20]!r}, got {len(got)} bytes {got[:20]!r}")


def fails(error, call, *arguments, **keywords):
    try:
        result = call(*arguments, **keywords)
    except error:
        return
    raise AssertionError(f"expected {error.__name__}, got {result!r}")


def ready(address):
    print("ready", address, flush=True)


def listen(address, **options):
    server = ipcio.listen(address, **options)
    ready(server.address)
    return server


def connect(address, **options):
    return ipcio.connect(address, timeout=LONG, **options)


def case(cls):
    CASES[cls.__name__] = cls
    return cls


@case
class echo:
    def server(address, sizes=SIZES):
        with listen(address) as server, server.accept(LONG) as conn:
            for i, size in enumerate(sizes):
                expect(conn, pattern(size, i))
                conn.write(pattern(size, i + 100), LONG)
            fails(ipcio.Closed, conn.read, LONG)

    def client(address, sizes=SIZES):
        with connect(address) as conn:
            for i, size in enumerate(sizes):
                check(conn.call(pattern(size, i), LONG) == pattern(size, i + 100), f"the answer of {size} bytes")


@case
class long:
    def server(address):
        echo.server(address, LONG_SIZES)

    def client(address):
        echo.client(address, LONG_SIZES)


@case
class empty:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            count = 0
            while (message := conn.read(LONG)) == b"":
                count += 1
            check(message == b"x", "the message after the empty ones")
            conn.write(b"%d" % count, LONG)

    def client(address):
        with connect(address) as conn:
            for _ in range(1000):
                conn.write(b"", LONG)
            conn.write(b"x", LONG)
            expect(conn, b"1000")


@case
class many:
    def checksum(value, message):
        for byte in message:
            value = (value * 31 + byte) % (1 << 32)
        return value

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            count = value = 0
            while (message := conn.read(LONG)) != b"sum":
                count, value = count + 1, many.checksum(value, message)
            conn.write(b"%d %d" % (count, value), LONG)

    def client(address):
        with connect(address) as conn:
            value = 0
            for i in range(1, 10001):
                message = b"number %d" % (i * i)
                value = many.checksum(value, message)
                conn.write(message, LONG)
            check(conn.call(b"sum", LONG) == b"10000 %d" % value, "count and checksum")


@case
class order:
    def send(conn):
        for i in range(200):
            conn.write(pattern(i * 7919 % 70000, i), LONG)

    def receive(conn):
        for i in range(200):
            expect(conn, pattern(i * 7919 % 70000, i))

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            order.receive(conn)
            order.send(conn)

    def client(address):
        with connect(address) as conn:
            order.send(conn)
            order.receive(conn)


@case
class late:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn, server.accept(LONG) as other:
            expect(conn, b"slow")
            expect(other, b"gave up")
            conn.write(b"late", LONG)
            expect(conn, b"fast")
            conn.write(b"in time", LONG)

    def client(address):
        with connect(address) as conn, connect(address) as other:
            fails(ipcio.TimedOut, conn.call, b"slow", 0.05)
            other.write(b"gave up", LONG)
            check(conn.call(b"fast", LONG) == b"in time", "the answer to the second call")


@case
class limit:
    def server(address):
        with listen(address, limit=1000) as server, server.accept(LONG) as conn:
            expect(conn, pattern(500, 1))
            fails(ipcio.TooBig, conn.write, pattern(501, 2), LONG)
            conn.write(pattern(500, 2), LONG)
            expect(conn, b"end")

    def client(address):
        with connect(address + "?limit=500") as conn, connect(address, limit=5000) as other:
            fails(ipcio.TooBig, conn.write, pattern(501, 1), LONG)
            fails(ipcio.TooBig, other.write, pattern(1001, 1), LONG)
            conn.write(pattern(500, 1), LONG)
            expect(conn, pattern(500, 2))
            conn.write(b"end", LONG)


@case
class pieces:
    def send(conn):
        message = pattern(300000, 3)
        conn.write_start(len(message), LONG)
        for at in range(0, len(message), 7000):
            conn.write_buffer(message[at:at + 7000], LONG)
        conn.write_end(LONG)

    def receive(conn):
        parts = []
        check(conn.read_start(LONG) == 300000, "the length")
        while part := conn.read_buffer(999, LONG):
            check(len(part) <= 999, "the length of a piece")
            parts.append(part)
        conn.read_end(LONG)
        check(b"".join(parts) == pattern(300000, 3), "the message")

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            pieces.receive(conn)
            pieces.send(conn)
            check(conn.read_start(LONG) == 300000, "the length")
            conn.read_buffer(10, LONG)
            conn.read_end(LONG)  # drops the rest
            expect(conn, b"end")

    def client(address):
        with connect(address) as conn:
            pieces.send(conn)
            pieces.receive(conn)
            conn.write(pattern(300000, 3), LONG)
            conn.write(b"end", LONG)


@case
class view:
    def send(conn, size, seed):
        conn.write_view(size // 2, LONG)  # is given up
        with conn.write_view(size, LONG) as room:
            room[:] = pattern(size, seed)
        fails(ipcio.Invalid, conn.write, b"in between", LONG)
        conn.write_end(LONG)

    def expect(conn, size, seed):
        with conn.read_view(LONG) as seen:
            check(seen == pattern(size, seed), f"the message of {size} bytes")

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            for i, size in enumerate(SIZES):
                view.expect(conn, size, i)
                view.send(conn, size, i + 100)
            fails(ipcio.Closed, conn.read_view, LONG)

    def client(address):
        with connect(address) as conn:
            for i, size in enumerate(SIZES):
                view.send(conn, size, i)
                view.expect(conn, size, i + 100)


@case
class abort:
    def give_up(conn, length, given):
        conn.write_start(length, LONG)
        conn.write_buffer(pattern(given, 0), LONG)
        if length > 1 << 20:
            expect(conn, b"begun")
        fails(ipcio.Invalid, conn.write_end, LONG)

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            expect(conn, b"one")
            expect(conn, b"two")
            check(conn.read_start(LONG) == 2 << 20, "the length")
            conn.write(b"begun", LONG)
            try:
                while conn.read_buffer(10000, LONG):
                    pass
            except ipcio.Aborted:
                conn.read_end(LONG)
            else:
                check(False, "the message came to its end")
            expect(conn, b"three")

    def client(address):
        with connect(address) as conn:
            abort.give_up(conn, 10, 5)
            conn.write(b"one", LONG)
            abort.give_up(conn, 1 << 20, 1 << 19)
            conn.write(b"two", LONG)
            abort.give_up(conn, 2 << 20, 1 << 10)
            conn.write(b"three", LONG)


@case
class unread:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn, server.accept(LONG) as other:
            expect(other, b"gave up")
            expect(conn, b"after")
            conn.write(b"and back", LONG)

    def client(address):
        with connect(address) as conn, connect(address) as other:
            fails(ipcio.TimedOut, conn.write, pattern(32 << 20, 0), 0.1)
            other.write(b"gave up", LONG)
            conn.write(b"after", LONG)
            expect(conn, b"and back")


@case
class timeout:
    def server(address):
        with ipcio.listen(address) as server:
            fails(ipcio.TimedOut, server.accept, 0)
            fails(ipcio.TimedOut, server.accept, 0.05)
            ready(server.address)
            with server.accept(LONG) as conn:
                expect(conn, b"no answer")
                expect(conn, b"go on")
                conn.write(b"gone on", LONG)

    def client(address):
        with connect(address) as conn:
            fails(ipcio.TimedOut, conn.read, 0)
            fails(ipcio.TimedOut, conn.read, 0.05)
            fails(ipcio.TimedOut, conn.call, b"no answer", 0.05)
            conn.write(b"go on", LONG)
            expect(conn, b"gone on")


@case
class first:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            expect(conn, b"hello")
            conn.write(b"welcome", LONG)

    def client(address):
        fails(ipcio.Missing, ipcio.connect, address, 0)
        fails(ipcio.TimedOut, ipcio.connect, address, 0.05)
        ready(address)
        with connect(address) as conn:
            check(conn.call(b"hello", LONG) == b"welcome", "the answer")


@case
class clients:
    def server(address):
        left = 8

        def handler(request, conn):
            nonlocal left
            if request == b"bye":
                left -= 1
            if left == 0:
                server.stop()
            return b"you said " + request

        with listen(address) as server:
            server.serve(handler)

    def client(address):
        with connect(address) as conn:
            for i in range(50):
                message = b"%d of %d" % (i, os.getpid())
                check(conn.call(message, LONG) == b"you said " + message, "the answer")
            for i in range(50):
                conn.write(b"%d" % i, LONG)
            for i in range(50):
                expect(conn, b"you said %d" % i)
            check(conn.call(b"bye", LONG) == b"you said bye", "the last answer")


@case
class close:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn, server.accept(LONG) as other:
            expect(other, b"closed")
            check([message for message in conn] == [b"message %d" % i for i in range(100)], "all messages")
            fails(ipcio.Closed, conn.read, LONG)
            fails(ipcio.Closed, conn.write, b"x", LONG)
            for i in range(50):
                other.write(pattern(1000, i), LONG)

    def client(address):
        with connect(address) as conn, connect(address) as other:
            for i in range(100):
                conn.write(b"message %d" % i, LONG)
            conn.close()
            conn.close()
            fails(ipcio.Invalid, conn.read, LONG)
            fails(ipcio.Invalid, conn.write, b"x", LONG)
            other.write(b"closed", LONG)
            for i in range(50):
                expect(other, pattern(1000, i))
            fails(ipcio.Closed, other.read, LONG)


@case
class duplex:
    def both(conn):
        errors = []

        def send():
            try:
                for i in range(40):
                    conn.write(pattern(200000 + i, i), LONG)
            except ipcio.Error as error:
                errors.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        for i in range(40):
            expect(conn, pattern(200000 + i, i))
        thread.join()
        check(not errors, errors)

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            duplex.both(conn)

    def client(address):
        with connect(address) as conn:
            duplex.both(conn)


@case
class peer:
    def me():
        return b"%d %d %d" % (os.getpid(), os.geteuid(), os.getegid())

    def is_peer(conn, text):
        """The user is what the other side says, and what else the system can tell."""
        same = [its in (-1, said) for its, said in zip(conn.peer, map(int, text.split()))]
        check(all(same) and conn.peer.uid != -1, f"{text} is not {conn.peer}")

    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            peer.is_peer(conn, conn.read(LONG))
            conn.write(peer.me(), LONG)

    def client(address):
        with connect(address) as conn:
            peer.is_peer(conn, conn.call(peer.me(), LONG))


@case
class file:
    def passes(address):
        return address.startswith("pipe:")

    def options(address):
        return {"files": True} if file.passes(address) else {}

    def send(conn, text):
        """A message with an open file; the message alone where the transport passes no files."""
        with tempfile.TemporaryFile() as its:
            its.write(text)
            its.seek(0)
            if file.passes(conn.address):
                conn.send_file(its, b"file", LONG)
            else:
                fails(ipcio.Unsupported, conn.send_file, its, b"file", LONG)
                conn.write(b"file", LONG)

    def expect(conn, text):
        expect(conn, b"file")
        if file.passes(conn.address):
            with os.fdopen(conn.take_file(), "rb") as its:
                check(its.read() == text, "the file")
        fails(ipcio.Missing, conn.take_file)

    def server(address):
        with listen(address, **file.options(address)) as server, server.accept(LONG) as conn:
            file.expect(conn, b"there")
            file.send(conn, b"back")

    def client(address):
        with connect(address, **file.options(address)) as conn:
            file.send(conn, b"there")
            file.expect(conn, b"back")


@case
class exists:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            expect(conn, b"still")
            conn.write(b"here", LONG)

    def client(address):
        fails(ipcio.Exists, ipcio.listen, address)
        with connect(address) as conn:
            check(conn.call(b"still", LONG) == b"here", "the answer")


@case
class server_killed:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            for i in range(20):
                conn.write(b"message %d" % i, LONG)
            expect(conn, b"die")
            os.kill(os.getpid(), signal.SIGKILL)

    def client(address):
        with connect(address) as conn:
            conn.write(b"die", LONG)
            for i in range(20):
                expect(conn, b"message %d" % i)
            fails(ipcio.Closed, conn.read, LONG)


@case
class client_killed:
    def server(address):
        with listen(address) as server, server.accept(LONG) as conn:
            conn.write(b"die", LONG)
            for i in range(20):
                expect(conn, b"message %d" % i)
            fails(ipcio.Closed, conn.read, LONG)

    def client(address):
        with connect(address) as conn:
            for i in range(20):
                conn.write(b"message %d" % i, LONG)
            expect(conn, b"die")
            os.kill(os.getpid(), signal.SIGKILL)


@case
class autoit:
    TYPES = {"pipe": ipcio.cNamedPipe, "file": ipcio.cFile, "tcp": ipcio.cTCP, "shm": ipcio.cSharedMem,
             "mailslot": ipcio.cMailSlot}

    def type(address):
        return autoit.TYPES[address.split(":")[0]]

    def server(address):
        fd = ipcio.InitConnection(autoit.type(address), address, True, lambda: None, 65536)
        ready(address)
        for _ in range(2):
            ipcio.StartConnection(fd)
            check(ipcio.ReadData(fd) == pattern(10240, 4), "the request")
            check(ipcio.WriteData(fd, pattern(70000, 5)) == 70000, "the count")
            ipcio.ReadStart(fd)
            left = ipcio.ReadSize(fd)
            check(left == 5000, "the size")
            while part := ipcio.ReadBuffer(fd, 999):
                check(part == pattern(5000, 6)[-left:][:len(part)], "the piece")
                left -= len(part)
            ipcio.ReadEnd(fd)
            check(left == 0, "the pieces")
            ipcio.WriteStart(fd)
            ipcio.WriteSize(fd, 3)
            ipcio.WriteBuffer(fd, b"en")
            ipcio.WriteBuffer(fd, b"d")
            ipcio.WriteEnd(fd)
            ipcio.StopConnection(fd)
        ipcio.EndConnection(fd)
        fails(ipcio.Invalid, ipcio.StartConnection, fd)

    def client(address):
        for _ in range(2):
            fd = ipcio.OpenConnection(autoit.type(address), address)
            ipcio.WriteData(fd, pattern(10240, 4))
            check(ipcio.ReadData(fd) == pattern(70000, 5), "the answer")
            ipcio.WriteData(fd, pattern(5000, 6))
            check(ipcio.ReadData(fd) == b"end", "the end")
            ipcio.CloseConnection(fd)
            fails(ipcio.Invalid, ipcio.ReadData, fd)


def main(role, address=None, name=None):
    if role == "transports":
        print(*ipcio.transports())
    elif role == "cases":
        print(*CASES)
    else:
        getattr(CASES[name], role)(address)
        print("ok", name)


main(*sys.argv[1:])
