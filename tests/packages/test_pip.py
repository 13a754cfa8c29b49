"""`pip install .` in a fresh virtual environment."""
import sys

import pytest
from conftest import GREETED, ROOT, VERSION, converse, new_python, run


@pytest.fixture(scope="module")
def python(source, folder):
    python = new_python(folder / "venv")
    run(python, "-m", "pip", "install", source)
    return python


def test_two_scripts_talk(python, source):
    server, client = source / "examples/greeter_server.py", source / "examples/greeter_client.py"
    assert converse([python, server], [python, client]) == GREETED


def test_version(python):
    code = "import importlib.metadata, ipcio; print(ipcio.__version__, importlib.metadata.version('ipcio'))"
    assert run(python, "-c", code).split() == [VERSION, VERSION]


def test_it_holds_the_python_package_and_nothing_else(python):
    code = "import importlib.metadata; print(*importlib.metadata.files('ipcio'), sep='\\n')"
    files = {line for line in run(python, "-c", code).splitlines() if ".dist-info/" not in line and ".pyc" not in line}
    suffix = run(python, "-c", "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))").strip()
    sources = {path.relative_to(ROOT / "bindings/python").as_posix()
               for path in (ROOT / "bindings/python").rglob("*.*") if path.suffix != ".pyc"}
    assert {"ipcio/__init__.py", "ipcio/_core.pyi", "ipcio/py.typed"} <= sources
    assert files == sources | {"ipcio/_core" + suffix}


def test_types(python):
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip()
    assert site.startswith(str(python.parents[1]))
    run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ROOT / "tests/python/test_types.py", PYTHONPATH=site)
