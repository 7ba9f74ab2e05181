"""Modules that have moved: the old address works for one more version, and says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ticketlock
from ticketlock.moved import MOVED, RENAMED

CODE = """
import sys, warnings
from importlib import import_module

old, new = sys.argv[1:]
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    names = {}
    exec(f"import {old} as module", names)
there, here = names["module"], import_module(new)
public = [name for name in vars(here) if not name.startswith("_")]
assert public and all(getattr(there, name) is getattr(here, name) for name in public)
assert here.__name__ == here.__spec__.name == new
(warning,) = [w for w in said if issubclass(w.category, DeprecationWarning)]
assert new in str(warning.message) and warning.filename == "<string>", warning
"""


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_the_old_address_hands_on_and_names_the_new_one(old: str, new: str) -> None:
    """The same objects; the warning points at the line that imports."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, old, new],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_old_name_of_a_class_is_the_same_class(old: str, new: str) -> None:
    """The warning names the new one, and points at the line that uses the old one."""
    with pytest.warns(
        DeprecationWarning, match=f"ticketlock.{old} is now ticketlock.{new}"
    ) as said:
        found = getattr(ticketlock, old)
    assert found is getattr(ticketlock, new)
    assert {warning.filename for warning in said} == {__file__}
    assert old not in ticketlock.__all__


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("ticketlock.never_was")
