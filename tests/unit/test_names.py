"""Names from outside stay below their folder, by Windows' path rules as by everybody's."""

import string
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.names import is_plain

PLAIN = (
    "a",
    "InstructX Tiny (bundled)",
    "diffusers/mine",
    "owner--name/vae/config.json",
    "v1.5",
    ".hidden",
    "模型",
    "con-a",
)
OUTSIDE = (
    *("", ".", "..", "../x", "a/..", "a/../../x", "./a", "a//b", "a/", "/etc", "//host/share", "/", "~/../x"),
    *(
        "..\\x",
        "..\\..\\x.json",
        "a\\b",
        "\\\\host\\share",
        "\\\\?\\C:\\x",
        "\\\\.\\pipe\\x",
        "\\x",
        "C:",
        "C:x",
        "c:/x",
        "C:\\x",
    ),
    *("CON", "nul", "aux.x", "AUX.tar.gz", "com1", "LPT9.json", "COM¹", "conin$", "a/nul", "nul/a", "con .x", "PRN "),
    *("a.", "a ", "a./b", "x:stream", "a*", "a?", "<a", 'a"b', "a|b", "a\nb", "a\0b", "a\x1b[2J", "a\u202eb", "\udcff"),
    *("x" * 201, "é" * 101, None, 5, ["a"], b"a"),
)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names(name):
    assert is_plain(name)


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_names_that_lead_elsewhere(name):
    assert not is_plain(name)


@pytest.mark.parametrize("root", ["C:/models", "//server/share/models", "models"])
@given(name=st.text(st.sampled_from(string.ascii_letters + "012/\\.: ~$*-¹"), max_size=12))
def test_what_is_plain_lies_below_on_every_system(root, name):
    if not is_plain(name):
        return
    for system in (PureWindowsPath, PurePosixPath):
        joined = system(root) / name
        assert joined.is_relative_to(system(root))
        assert ".." not in joined.parts
        assert len(joined.parts) == len(system(root).parts) + name.count("/") + 1
    assert not PureWindowsPath(name).is_reserved()
