"""No file names a folder of some developer's machine.  usage: paths.py [ROOT]"""
import os
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])
SKIPPED = {"build", "dist", ".git", ".pytest_cache", "__pycache__"}
MACHINE = re.compile(rb"(?<![\w.~:/])/(home|root|work|workspace|Users|tmp/(brief|build)[\w-]*)/")

problems, count = [], 0
for folder, folders, files in os.walk(ROOT):
    folders[:] = sorted(set(folders) - SKIPPED)
    for name in sorted(files):
        path = Path(folder, name)
        count += 1
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if MACHINE.search(line):
                problems.append(f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace').strip()}")

print("\n".join(problems) or f"{count} files: none names a folder of one machine")
sys.exit(bool(problems) or not count)
