"""The classes of errors, which ipcio.h's table defines."""
import builtins
import copy
import errno
import pickle
import pydoc
import re
import resource
from pathlib import Path

import ipcio
import pytest

HEADER = Path(__file__).parents[2] / "core/include/ipcio.h"
TABLE = re.findall(r'^ +X\((\w+), -(\d+), "(\w+)", "(\w+)", "(\w+)",', HEADER.read_text(), re.M)


def test_the_table_was_found():
    assert len(TABLE) == 18


@pytest.mark.parametrize("status, number, code, name, base", TABLE, ids=[row[0] for row in TABLE])
def test_class(status, number, code, name, base):
    class_ = getattr(ipcio, name)
    assert class_.code == code
    assert class_.__bases__ == (ipcio.Error, getattr(builtins, base))
    assert class_.__module__ == "ipcio"
    assert class_.__doc__
    assert name in ipcio.__all__


def test_there_are_no_others():
    found = {name for name, value in vars(ipcio).items() if isinstance(value, type) and issubclass(value, ipcio.Error)}
    assert found == {row[3] for row in TABLE} | {"Error"}


def test_an_error_says_what_was_tried_on_which_name(address):
    with pytest.raises(FileNotFoundError) as caught:
        ipcio.connect(address, 0)
    assert type(caught.value) is ipcio.Missing
    assert caught.value.code == "missing"
    assert address in str(caught.value)
    assert caught.value.args == (str(caught.value),)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error)),
                                   lambda error: copy.copy(copy.copy(error))],
                         ids=["copy", "deepcopy", "pickle", "twice"])
@pytest.mark.parametrize("address, number", [("pipe:///nowhere/at/all", errno.ENOENT), ("pipe:", None)])
def test_an_error_can_be_copied(address, number, again):
    with pytest.raises(ipcio.Error) as caught:
        ipcio.listen(address)
    error = caught.value
    error.more = "of the script"
    made = again(error)
    assert type(made) is type(error) and str(made) == str(error) and made.args == error.args
    assert getattr(made, "errno", None) == getattr(error, "errno", None) == number
    assert made.more == error.more


def test_help_shows_a_method():
    help_text = pydoc.plain(pydoc.render_doc(ipcio.Missing))
    assert "__reduce__(self)\n" in help_text and "lambda" not in help_text


def test_the_systems_number(address):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(ipcio.System) as caught:
            ipcio.listen(address)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    assert isinstance(caught.value, OSError)
    ipcio.listen(address).close()


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/proc/name"])
def test_a_path_where_nobody_can_listen(path):
    with pytest.raises(ipcio.Error) as caught:
        ipcio.listen(f"pipe://{path}")
    assert path in str(caught.value)


def test_a_message_may_have_bytes_that_are_no_text(directory):
    with pytest.raises(ipcio.Missing) as caught:
        ipcio.connect(f"pipe://{directory}/\udcff", 0)
    assert directory in str(caught.value) and str(caught.value).encode()
