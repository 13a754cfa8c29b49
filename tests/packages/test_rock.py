"""`luarocks make` into a tree, and the module in that tree alone."""
import re

import pytest
from conftest import GREETED, VERSION, converse, run

# Every public name of the module and the methods of its classes, as "class.name".
NAMES = """
local classes = require "ipcio.core"
for class, names in pairs {ipcio = require "ipcio", ["ipcio.Server"] = classes.Server,
                           ["ipcio.Connection"] = classes.Connection} do
  for name in pairs(names) do print(class .. "." .. name) end
end
"""


@pytest.fixture(scope="module")
def tree(source, folder):
    rockspec, = (source / "rockspec").iterdir()
    assert rockspec.name == f"ipcio-{VERSION}-1.rockspec"
    run("luarocks", "--lua-version", "5.4", "--tree", folder / "tree", "make", rockspec, cwd=source,
        CMAKE_GENERATOR="Ninja")
    return folder / "tree"


@pytest.fixture(scope="module")
def paths(tree):
    """The variables by which Lua finds what is in the tree and nothing else."""
    return {"LUA_PATH": f"{tree}/share/lua/5.4/?.lua;{tree}/share/lua/5.4/?/init.lua",
            "LUA_CPATH": f"{tree}/lib/lua/5.4/?.so"}


def test_two_scripts_talk(source, paths):
    server, client = source / "examples/greeter_server.lua", source / "examples/greeter_client.lua"
    assert converse(["lua5.4", server], ["lua5.4", client], **paths) == GREETED


def test_version(tree, paths):
    assert run("lua5.4", "-e", 'print(require "ipcio".VERSION)', **paths).strip() == VERSION
    shown = run("luarocks", "--lua-version", "5.4", "--tree", tree, "show", "--mversion", "ipcio")
    assert shown.strip() == f"{VERSION}-1"


def test_it_holds_the_lua_module_and_nothing_else(source, tree):
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    sources = {f"share/lua/5.4/ipcio/{path.name}" for path in (source / "lua/ipcio").iterdir()}
    assert "share/lua/5.4/ipcio/init.lua" in sources
    assert {name for name in files if not name.startswith("lib/luarocks/")} == sources | {"lib/lua/5.4/ipcio/core.so"}


def annotated(text):
    """What the language server learns from a file: "class.name" for each field, function and method."""
    classes = {}  # by the local variable that holds the class
    comment = []
    for line in text.splitlines():
        if line.startswith("--"):
            comment.append(line)
            continue
        class_ = next((match[1] for each in comment if (match := re.match(r"---@class ([\w.]+)", each))), None)
        fields = {match[1] for each in comment if (match := re.match(r"---@field (\w+) .", each))}
        if class_:
            yield from (f"{class_}.{field}" for field in fields)
            if match := re.match(r"local (\w+) =", line):
                classes[match[1]] = class_
        if (match := re.match(r"function (\w+)[.:](\w+)\(([^)]*)\)", line)) and match[1] in classes:
            parameters = [parameter[1] for each in comment if (parameter := re.match(r"---@param (\w+)\??", each))]
            assert parameters == re.findall(r"\w+", match[3]), line
            assert any(each.startswith("---@return") for each in comment), line
            yield f"{classes[match[1]]}.{match[2]}"
        if (match := re.match(r"(\w+)\.(\w+) = (.*)", line)) and match[1] in classes:
            assert match[3] in ("true", "false") or any("---@type" in each for each in [line, *comment]), line
            yield f"{classes[match[1]]}.{match[2]}"
        comment = []


def test_every_public_name_is_annotated(tree, paths):
    (tree / "names.lua").write_text(NAMES)
    files = (tree / "share/lua/5.4/ipcio").iterdir()
    found = [name for path in files for name in annotated(path.read_text(encoding="utf-8"))]
    public = {name for name in found if name.startswith(("ipcio.Server.", "ipcio.Connection.")) or name.count(".") == 1}
    assert sorted(public) == sorted(run("lua5.4", tree / "names.lua", **paths).split())
