"""Modules that have moved: the old address works for one more version, and says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ticketlock
from ticketlock.moved import MOVED, PLACES, RENAMED

CODE = """
import sys, warnings
from importlib import import_module

old, new, place = sys.argv[1:]
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    names = {}
    exec(f"import {old} as module", names)
there, here = names["module"], import_module(new)
public = [name for name in vars(here) if not name.startswith("_")]
assert public and all(getattr(there, name) is getattr(here, name) for name in public)
assert here.__name__ == here.__spec__.name == new
(warning,) = [w for w in said if issubclass(w.category, DeprecationWarning)]
assert place in str(warning.message) and warning.filename == "<string>", warning
assert set(public) <= set(dir(there)) & set(there.__all__)
"""


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_the_old_address_hands_on_and_names_the_new_one(old: str, new: str) -> None:
    """The same objects; the warning points at the line that imports."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, old, new, PLACES.get(old, "ticketlock")],
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


def test_names_that_are_in_another_file_now() -> None:
    """Also as attributes of the package, which had its modules once it was imported."""
    code = """
import warnings
warnings.simplefilter("ignore")
import ticketlock
from ticketlock.event_broker import EventBroker, Message, Outcome, SEQUENCE_FIELD
from ticketlock.registry import create_lock_store
import sys
assert not [name for name in sys.modules if name.startswith("ticketlock.demo")]
from ticketlock.registry import EVENT_LISTENERS
from ticketlock.tracker import Tracker
from ticketlock.tracker_store import Claim, TrackerStore
from ticketlock.sync import SyncLock, SyncLockStore
assert Message is ticketlock.BrokerMessage and Tracker is ticketlock.Tracker
assert ticketlock.lock_store.LockStore is ticketlock.LockStore
try:
    ticketlock.lock_store.never_was
except AttributeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    text = "module 'ticketlock.lock_store' has no attribute 'never_was'\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("ticketlock.never_was")
