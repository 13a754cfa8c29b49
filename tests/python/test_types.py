"""The type stubs agree with the module: that of the build, and in tests/packages the installed one."""
import os
import subprocess
import sys
from pathlib import Path

import ipcio
import pytest

pytest.importorskip("mypy.version", "1.4")  # the first that knows Buffer
PACKAGE = Path(ipcio.__file__).parent


def run(tmp_path, *command):
    environment = dict(os.environ, PYTHONPATH=str(PACKAGE.parent))  # from there mypy takes only what has py.typed
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_the_stubs_are_the_modules(tmp_path):
    run(tmp_path, "mypy.stubtest", "ipcio")


def test_the_package_passes_the_type_checker(tmp_path):
    run(tmp_path, "mypy", "--strict", "-p", "ipcio")


def test_a_script_passes_the_type_checker(tmp_path):
    (tmp_path / "script.py").write_text('''
import ipcio

def handler(request: bytes, conn: ipcio.Connection) -> bytes | None:
    return request

with ipcio.listen("pipe://greeter", limit=1000) as server, server.accept(timeout=5) as conn:
    for request in conn:
        conn.write(bytearray(request), 1.5)
    pid: int = conn.peer.pid
    server.serve(handler, on_error=lambda error, conn: print(error, conn.address))
text: str = ipcio.connect("pipe://greeter", 5).call(memoryview(b""), timeout=1).decode()
iFD: int = ipcio.InitConnection(ipcio.cNamedPipe, "greeter", True, lambda: None)
data: bytes = ipcio.ReadData(iFD)
count: int = ipcio.WriteData(iFD, data)
try:
    pass
except (ipcio.TimedOut, ipcio.Closed) as error:
    code: str = error.code
''')
    run(tmp_path, "mypy", "--strict", "script.py")
