"""Memory that another process reads."""
import array
import itertools
import os

import ipcio
import pytest

READER = """
    def read(*place):
        try:
            return ipcio.read_memory(*place)
        except ipcio.Error as error:
            return f"{error.code}: {error}"
    if "nobody" in arguments:
        os.setgid(65534)
        os.setuid(65534)
    tell("ready")
    while line := sys.stdin.readline():
        tell(repr(read(*map(int, line.split()))))
    """


@pytest.fixture
def ask(script):
    """What a reader in another process gets for a pid, an address and a size."""
    def start(*arguments):
        reader = script(READER, *arguments)
        reader.expect("ready")

        def ask(*place):
            reader.process.stdin.write(" ".join(map(str, place)) + "\n")
            reader.process.stdin.flush()
            return reader.line()
        return ask
    return start


def test_another_process_reads_it(ask):
    data = bytearray(b"there \0\xff")
    read = ask()
    with ipcio.export_memory(data) as memory:
        assert (memory.pid, memory.size) == (os.getpid(), len(data))
        assert repr(memory) == f"<ipcio.Memory 8 bytes at {memory.address:#x} of process {os.getpid()}>"
        assert read(memory.pid, memory.address, memory.size) == repr(bytes(data))
        data[:5] = b"after"  # it is the buffer itself
        assert read(memory.pid, memory.address + 1, 4) == repr(b"fter")
        assert read(memory.pid, memory.address, 0) == repr(b"")


def test_the_buffer_stays_until_it_is_closed():
    data = bytearray(10)
    memory = ipcio.export_memory(data)
    with pytest.raises(BufferError):
        data.append(1)
    memory.close()
    memory.close()
    data.append(1)


@pytest.mark.parametrize("data", [b"some bytes", array.array("d", [1, 2, 3]), memoryview(b"a view")[2:], b""])
def test_any_buffer(data):
    with ipcio.export_memory(data) as memory:
        assert ipcio.read_memory(memory.pid, memory.address, memory.size) == bytes(data)


@pytest.mark.parametrize("data", ["text", 5, None, memoryview(b"every second")[::2]])
def test_no_buffer(data):
    with pytest.raises((TypeError, BufferError)):
        ipcio.export_memory(data)


def test_errors(ask, script):
    read = ask()
    assert read(os.getpid(), 0, 1).startswith("'invalid: ")
    ended = script("pass")
    assert ended.finish() == []
    assert read(ended.pid, 1 << 20, 1).startswith("'missing: ")
    with open("/proc/self/maps") as maps:
        areas = [(*(int(place, 16) for place in line.split()[0].split("-")), line.split()[1]) for line in maps]
    end = next(end for (_, end, mode), (after, _, _) in itertools.pairwise(areas) if mode == "rw-p" and after > end)
    assert f"toobig: process {os.getpid()}: at {end - 4096:#x} only 4096 of 1000000 bytes" in read(
        os.getpid(), end - 4096, 1000000)


@pytest.mark.parametrize("place, error", [
    ((0, 0, 1), ipcio.Invalid), ((-1, 0, 1), ipcio.Invalid), ((1 << 70, 0, 1), ipcio.Invalid),
    ((1 << 40, 0, 1), ipcio.Missing), ((1, -1, 1), ipcio.Invalid), ((1, 1 << 64, 1), ipcio.Invalid),
    ((1, 0, -1), ipcio.Invalid), (("1", 0, 1), TypeError), ((1, 0.5, 1), TypeError), ((1, 0), TypeError)])
def test_bad_arguments(place, error):
    with pytest.raises(error):
        ipcio.read_memory(*place)


def test_more_than_there_is_memory_for():
    with pytest.raises(ipcio.NoMemory, match=f"process {os.getpid()}: no memory for the {1 << 50} bytes"):
        ipcio.read_memory(os.getpid(), 1 << 20, 1 << 50)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_not(ask):
    with ipcio.export_memory(b"secret") as memory:
        assert ask("nobody")(memory.pid, memory.address, memory.size).startswith("'denied: ")
