"""What the tests of the packages share: a clean copy of the source, fresh environments, scripts that talk.

Each package is built as a user builds it, installed into a temporary folder and used from there."""
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.search(r'^#define IPCIO_VERSION "(.+)"', (ROOT / "core/include/ipcio.h").read_text(), re.M)[1]
GREETED = "hello world\nhello Zoë\n"  # by examples/greeter_server

for path in "LUA_PATH", "LUA_CPATH", "PYTHONPATH":  # they lead to the build folder
    os.environ.pop(path, None)


def pytest_addoption(parser):
    parser.addoption("--build", type=Path, help="the folder of the build whose C library is installed")


def run(*command, cwd=None, **environment):
    """What a command prints, which must succeed."""
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment}, encoding="utf-8", cwd=cwd,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{done.args}\n{done.stdout}"
    return done.stdout


def converse(server, client, number=itertools.count(), **environment):
    """What a client prints that talks to a server in another process.  To both commands the address is added."""
    address = f"pipe://package-{os.getpid()}-{next(number)}"
    with subprocess.Popen([*server, address], env={**os.environ, **environment}) as process:
        try:
            return run(*client, address, **environment)
        finally:
            process.kill()


def new_python(folder):
    """The Python of a fresh virtual environment."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin/python3"


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="ipcio-package.") as name:
        os.chdir(name)  # far from the source
        yield Path(name)
        os.chdir(ROOT)


@pytest.fixture(scope="module")
def source(folder):
    """The checkout without what was built in it."""
    ignored = shutil.ignore_patterns("build", "build.luarocks", "dist", ".git", "__pycache__", "*.egg-info", "Cargo.lock")
    return shutil.copytree(ROOT, folder / "source", ignore=ignored)
