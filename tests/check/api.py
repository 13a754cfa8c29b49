"""Every public function is documented, bound and exported, and nothing else is exported.

usage: api.py LIBRARY WRAPPER...

A wrapper is C that SWIG generated, in a folder named after its language.  unbound.txt lists the functions
that a language does not wrap, each with its reason."""
import re
import subprocess
import sys
from pathlib import Path

LIBRARY = sys.argv[1]
WRAPPERS = [Path(argument) for argument in sys.argv[2:]]
ROOT = Path(__file__).parents[2]
NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)

problems = []

header = (ROOT / "core/include/ipcio.h").read_text()
public, documented = set(), set()
for paragraph in header.split("\n\n"):  # a comment and the declarations right under it
    for declaration in re.finditer(r"^IPCIO_API\b[^;]*?\b(ipcio_\w+)\(", paragraph, re.M):
        public.add(declaration[1])
        if "*/" in paragraph[:declaration.start()]:
            documented.add(declaration[1])
problems += [f"{name}: no comment above it in ipcio.h" for name in sorted(public - documented)]

# In the wrappers that SWIG generated, as no list of declarations tells what %extend calls.
bound = {path.parent.name: set(re.findall(r"\bipcio_\w+", NO_CODE.sub("", path.read_text()))) for path in WRAPPERS}

excused = set()
for line in (ROOT / "tests/check/unbound.txt").read_text().splitlines():
    if line and not line.startswith("#"):
        name, languages, *reason = line.split()
        excused |= {(name, language) for language in languages.split(",")}
        if not reason or name not in public:
            problems.append(f"{name}: unbound.txt gives no reason, or it does not stand in ipcio.h")
for language, names in bound.items():
    for name in sorted(public):
        if (name in names) == ((name, language) in excused):
            problems.append(f"{name}: " + (f"stands in unbound.txt, but {language} binds it" if name in names else
                                           f"neither bound in {language} nor in unbound.txt"))

symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], check=True, capture_output=True, text=True)
exported = {line.split()[-1] for line in symbols.stdout.splitlines()}
problems += [f"{name}: exported by {LIBRARY}, but not in ipcio.h" for name in sorted(exported - public)]
problems += [f"{name}: not exported by {LIBRARY}" for name in sorted(public - exported)]

print("\n".join(problems) or f"{len(public)} functions: documented, bound and exported")
sys.exit(bool(problems) or not public)
