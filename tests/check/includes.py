"""Includes run only downwards, and what stands above os.h knows no system.  usage: includes.py [ROOT]"""
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2]).resolve()

# From the top.  A folder uses itself and those under it; the files of core/src itself are a floor too.
FLOORS = [
    ["examples", "bindings", "tools", "bench"],
    ["swig"],
    ["core/src"],
    ["core/src/channel", "core/src/object"],
    ["core/src/base"],
    ["core/src/os"],
    ["core/src/os/posix", "core/src/os/linux", "core/src/os/win32"],
]
# Contracts, which those who keep them include as well as those who use them.
PUBLIC = "core/include/ipcio.h"  # all that is seen of the core from outside
CONTRACTS = {PUBLIC, "core/src/os/os.h"}

STANDARD = set("""inttypes limits math stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn
    string""".split())
SYSTEM = re.compile(r"#\s*(if|ifdef|ifndef|elif)\b.*\b(_?WIN(32|64)|_MSC_VER|__MINGW\w*|__CYGWIN__|_*linux_*|_*unix_*|"
                    r"__APPLE__|__\w*BSD__|__ANDROID__|__sun|__HAIKU__|__GLIBC__|_POSIX_\w+)\b")
# ipcio.h says how a symbol is made public.
EXCEPTION = ("core/include/ipcio.h", "#if defined(_WIN32)")
INCLUDE = re.compile(r'^\s*[#%]\s*include\s*(?:([<"])([^>"]+)[>"]|(\S+))')

problems = []


def floor(path):
    """The number of the floor of a file, from the top."""
    folder = path.parent.as_posix()
    while True:
        for number, folders in enumerate(FLOORS):
            if folder in folders:
                return number
        folder = Path(folder).parent.as_posix()
        if folder == ".":
            raise SystemExit(f"{path}: on no floor")


def find(path, name):
    """The project's file that `path` means by `name`, or None."""
    for folder in (path.parent, Path("core/src"), Path("core/include"), Path("swig")):
        target = (ROOT / folder / name).resolve()
        if target.is_file():
            return target.relative_to(ROOT)
    return None


def check_include(where, path, name):
    target = find(path, name)
    portable = path.parts[0] == "core" and path.parent.as_posix() not in FLOORS[-1]
    if target is None:
        if portable and name.removesuffix(".h") not in STANDARD:
            problems.append(f"{where}: <{name}> is not a header of standard C that may stand here")
    elif target.as_posix() == PUBLIC:
        pass
    elif path.as_posix() in CONTRACTS:
        problems.append(f"{where}: {path.name} uses nothing of the project, but {target}")
    elif target.parts[0] == "core" and path.parts[0] != "core":
        problems.append(f"{where}: of the core only {PUBLIC} may be used, not {target}")
    elif target.as_posix() not in CONTRACTS and floor(target) < floor(path):
        problems.append(f"{where}: {target} is on a floor above {path.parent}")


files = [p.relative_to(ROOT) for top in ("core", "swig", "bindings", "examples", "tools", "bench")
         for p in sorted((ROOT / top).rglob("*")) if p.suffix in (".c", ".h", ".i")]
for path in files:
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        where = f"{path}:{number}"
        include = INCLUDE.match(line)
        if include and include[3]:
            problems.append(f"{where}: a name in quotes or angles, please")
        elif include:
            check_include(where, path, include[2])
        in_os = path.as_posix().startswith("core/src/os/")
        if SYSTEM.search(line) and not in_os and (path.as_posix(), line.strip()) != EXCEPTION:
            problems.append(f"{where}: asks for a system outside core/src/os")

print("\n".join(problems) or f"{len(files)} files: every include runs downwards")
sys.exit(bool(problems) or not files)
