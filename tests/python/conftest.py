"""What the tests share: names, other processes, and a look at what each test left behind."""
import ctypes
import faulthandler
import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from contextlib import suppress

import pytest

libc = ctypes.CDLL(None)
LONGEST = 100  # seconds that a test may take before it is ended with a trace of all threads


class Script:
    """Python code that runs in a process of its own.

    The code knows `ipcio`, its `arguments`, tell(...), which sends a line to the test, and wait(), which waits for
    the test's go()."""

    PRELUDE = textwrap.dedent("""
        import ctypes, os, signal, sys, threading
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the test: no preexec_fn, which forks without exec
        import ipcio
        arguments = sys.argv[1:]
        def tell(*words): print(*words, flush=True)
        def wait(): sys.stdin.readline()
        """)

    def __init__(self, code, *arguments):
        command = [sys.executable, "-c", self.PRELUDE + textwrap.dedent(code), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def expect(self, line):
        assert self.line() == line

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def until_asleep(self):
        """Returns when its main thread sleeps in the kernel."""
        while True:
            with open(f"/proc/{self.pid}/stat") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
            if state == "S":
                return
            assert state in "RD", f"the process is in state {state}"

    def finish(self):
        """What else it told, once it has ended well."""
        self.process.stdin.close()
        with self.process.stdout as stdout:
            rest = stdout.read().splitlines()
        assert self.process.wait() == 0
        return rest

    def kill(self):
        self.process.kill()
        with self.process:  # closes its pipes and waits
            pass


class InThread(threading.Thread):
    """A function that runs in a thread; result() waits and returns or raises what it did."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self.function, self.arguments = function, arguments
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.function(*self.arguments)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(LONGEST)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.value


def descriptors():
    """The open descriptors and what each is."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the one that listed them
            pass
    return found


@pytest.fixture(scope="session", autouse=True)
def directory():
    """Names of this run only."""
    gc.freeze()  # what is loaded by now need not be looked through for each test
    path = os.environ["IPCIO_DIR"] = tempfile.mkdtemp(prefix="ipcio-pytest.")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def console(request):
    """The standard error that pytest was started with."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return os.dup(2)


@pytest.fixture(autouse=True)
def nothing_left(directory, console):
    """No test may leave a descriptor, a thread or a name behind."""
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=console)
    yield
    faulthandler.cancel_dump_traceback_later()
    gc.collect()
    assert descriptors() == before
    assert threading.active_count() == threads


_numbers = itertools.count()


@pytest.fixture
def name():
    return f"python-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def address(name):
    return f"pipe://{name}"


@pytest.fixture
def script():
    """Starts scripts; those that still run after the test are killed."""
    scripts = []

    def start(code, *arguments):
        scripts.append(Script(code, *arguments))
        return scripts[-1]

    yield start
    for each in scripts:
        each.kill()


@pytest.fixture(params=["nobody reads", "full", "closed", "None"])
def no_stderr(request):
    """What sys.stderr may be where nothing can be written to it."""
    if request.param == "nobody reads":
        reading, writing = os.pipe()
        os.close(reading)
        stderr = open(writing, "w", buffering=1)
    else:
        stderr = open("/dev/full", "w", buffering=1)
    if request.param in ("closed", "None"):
        stderr.close()
    yield None if request.param == "None" else stderr
    with suppress(OSError):  # what it keeps cannot be written now either
        stderr.close()


@pytest.fixture
def python_leaks(monkeypatch):
    """For scripts in which Python itself leaks: in a forked child, and with daemon threads at the end."""
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")


@pytest.fixture
def in_thread():
    return InThread


@pytest.fixture(scope="session")
def echo(directory):
    """The address of a server in another process that answers each request with itself."""
    address = f"pipe://python-{os.getpid()}-echo"
    server = Script("""
        with ipcio.listen(arguments[0]) as server:
            tell("ready")
            server.serve(lambda request, conn: request)
        """, address)
    server.expect("ready")
    yield address
    server.kill()


@pytest.fixture
def client(echo):
    import ipcio

    with ipcio.connect(echo, 10) as conn:
        yield conn
