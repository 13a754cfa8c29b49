"""The C code is clean for other compilers than the one that builds it.

usage: compilers.py clang BUILD [ROOT]   all C of the project, with the flags of that build
       compilers.py mingw [ROOT]         what stands above os.h, for Windows
       compilers.py musl [ROOT]          the core and its tests, for another C library"""
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def clang(build, root=ROOT):
    root = Path(root).resolve()
    for entry in json.loads((Path(build) / "compile_commands.json").read_text()):
        source = Path(entry["file"])
        if not source.is_relative_to(root) or source.is_relative_to(Path(build).resolve()):
            continue  # generated
        if source.is_relative_to(root / "bench" / "peers"):
            continue  # they need libraries that only the comparison with them installs
        flags = [f for f in shlex.split(entry["command"])[1:] if f.startswith(("-I", "-D", "-U", "-W", "-std="))]
        yield ["clang", *flags, "-Werror", "-fsyntax-only", str(source)]


def mingw(root=ROOT):
    core = Path(root) / "core"
    for source in sorted((core / "src").rglob("*.[ch]")):
        if source.relative_to(core / "src").parts[:2] not in (("os", "posix"), ("os", "linux")):
            # Formats are those of C, which mingw's library understands; its gcc only knows msvcrt's.
            yield ["x86_64-w64-mingw32-gcc", "-std=c11", "-Wall", "-Wextra", "-Wno-format", "-Werror", "-fsyntax-only",
                   "-x", "c", f"-I{core / 'include'}", f"-I{core / 'src'}", str(source)]


def musl(root=ROOT):
    root = Path(root)
    # The system's own headers are no C library's, but musl-gcc leaves them out.
    system = "-idirafter/usr/include", f"-idirafter/usr/include/{os.uname().machine}-linux-gnu"
    for source in sorted([*(root / "core/src").rglob("*.c"), *(root / "tests/c").glob("*.c")]):
        # CMSG_NXTHDR of musl compares numbers of both kinds.
        yield ["musl-gcc", "-std=c11", "-D_FILE_OFFSET_BITS=64", "-Wall", "-Wextra", "-Wno-sign-compare", "-Werror",
               "-fsyntax-only", f"-I{root / 'core/include'}", f"-I{root / 'core/src'}", *system, str(source)]


def run(command):
    return subprocess.run(command, capture_output=True, text=True)


commands = list({"clang": clang, "mingw": mingw, "musl": musl}[sys.argv[1]](*sys.argv[2:]))
with ThreadPoolExecutor(os.cpu_count()) as pool:
    results = list(pool.map(run, commands))
for result in results:
    sys.stdout.write(result.stdout + result.stderr)
print(f"{len(commands)} files compiled by {sys.argv[1]}")
sys.exit(not commands or any(result.returncode for result in results))
