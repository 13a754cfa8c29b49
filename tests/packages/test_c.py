"""`cmake --install`: the C library, shared and static, by its CMake package and by pkg-config."""
import re
import shutil

import pytest
from conftest import ROOT, VERSION, converse, run

SERIES = VERSION.rpartition(".")[0]  # in which programs need not be compiled again

PROJECT = f"""
cmake_minimum_required(VERSION 3.25)
project(greeter LANGUAGES C)
%s
add_executable(shared {ROOT}/examples/greeter.c)
target_link_libraries(shared PRIVATE ipcio::ipcio)
add_executable(static {ROOT}/examples/greeter.c)
target_link_libraries(static PRIVATE ipcio::ipcio_static)
"""

CLASH = """
#include <ipcio.h>
int main(void)
{
    ipcio_server *server;
    int st = ipcio_listen("pipe://clash", "limit=1000", &server);
    ipcio_server_free(server);
    return st;
}
"""


@pytest.fixture(scope="module")
def prefix(folder, request):
    """Where the library is, which was moved after it was installed."""
    run("cmake", "--install", request.config.getoption("--build"), "--prefix", folder / "first", "--component", "c")
    return (folder / "first").rename(folder / "prefix")


def talks(program, **environment):
    return converse([program, "serve"], [program, "Zoë"], **environment) == "hello Zoë\n"


def needed(program):
    return re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", program))


def pkg_config(prefix, *arguments):
    # What the variable of this name says is taken as the system's, and left out.
    return run("pkg-config", *arguments, "ipcio", PKG_CONFIG_PATH=f"{prefix}/lib/pkgconfig").split()


def names(*command):
    """The symbols that nm lists, each with its kind."""
    return dict(reversed(line.split()[-2:]) for line in run("nm", *command).splitlines() if len(line.split()) > 1)


def test_the_cmake_package(folder, prefix):
    (folder / "project").mkdir()
    (folder / "project/CMakeLists.txt").write_text(PROJECT % f"find_package(ipcio {SERIES} REQUIRED)")
    run("cmake", "-G", "Ninja", "-S", folder / "project", "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder / "build")
    assert f"libipcio.so.{SERIES}" in needed(folder / "build/shared")
    assert "libipcio" not in " ".join(needed(folder / "build/static"))
    assert talks(folder / "build/shared")
    assert talks(folder / "build/static")


# With flags that make an archive of no use for another compiler.
def test_the_source_as_a_part_of_a_project(folder, source):
    (folder / "whole").mkdir()
    (folder / "whole/CMakeLists.txt").write_text(PROJECT % f"add_subdirectory({source} ipcio)")
    run("cmake", "-G", "Ninja", "-S", folder / "whole", "-B", folder / "whole/build", "-DIPCIO_LUA=OFF",
        "-DIPCIO_PYTHON=OFF", "-DCMAKE_C_FLAGS=-O2 -flto=auto")
    run("cmake", "--build", folder / "whole/build")
    assert talks(folder / "whole/build/shared")
    assert talks(folder / "whole/build/static")
    archive = folder / "whole/build/ipcio/core/static/libipcio.a"
    assert all(name.startswith("ipcio_") for name in names("-g", "--defined-only", archive))


# By another compiler than the library's.
def test_pkg_config(folder, prefix):
    program = folder / "pkg-config-shared"
    run("clang", ROOT / "examples/greeter.c", "-o", program, *pkg_config(prefix, "--cflags", "--libs"))
    assert f"libipcio.so.{SERIES}" in needed(program)
    assert talks(program, LD_LIBRARY_PATH=f"{prefix}/lib")
    assert pkg_config(prefix, "--modversion") == [VERSION]


def test_pkg_config_static(folder, prefix):
    program = folder / "pkg-config-static"
    run("clang", "-static", ROOT / "examples/greeter.c", "-o", program,
        *pkg_config(prefix, "--static", "--cflags", "--libs"))
    assert needed(program) == []
    assert talks(program)


def test_only_the_public_names_are_seen(prefix):
    public = set(names("-D", "--defined-only", prefix / "lib/libipcio.so"))
    assert public and all(name.startswith("ipcio_") for name in public)
    assert set(names("-g", "--defined-only", prefix / "lib/libipcio.a")) == public


def test_a_program_may_have_what_the_library_keeps_to_itself(folder, prefix):
    symbols = names(prefix / "lib/libipcio.a")
    own = [name for name, kind in symbols.items() if kind == "t" and name.isidentifier()]
    assert len(own) > 100
    functions = "".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in own)
    (folder / "clash.c").write_text(CLASH)
    (folder / "own.c").write_text(functions)
    run("cc", "-fno-builtin", "-w", folder / "clash.c", folder / "own.c", "-o", folder / "clash",
        f"-I{prefix}/include", prefix / "lib/libipcio.a")
    run(folder / "clash")


def test_the_header_is_good_for_cpp(prefix):
    run("clang", "-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
        prefix / "include/ipcio.h")
