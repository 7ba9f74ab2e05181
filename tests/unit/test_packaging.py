"""What is installed is what is in the repository."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
checkout = pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")


@checkout
def test_every_folder_is_listed() -> None:
    """A package folder that is not listed would be missing from the wheel alone."""
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {"ticketlock.stores", "ticketlock.brokers", "ticketlock.lua"}
    for init in (ROOT / "ticketlock").rglob("__init__.py"):
        found.add(".".join(init.parent.relative_to(ROOT).parts))
    assert listed == found


def test_scripts_are_installed() -> None:
    """Every script can be read, and opens with its contract."""
    names = [path.name for path in files("ticketlock.lua").iterdir() if path.name.endswith(".lua")]
    assert "acquire.lua" in names
    for name in names:
        text = files("ticketlock.lua").joinpath(name).read_text()
        assert text.startswith("-- "), name
        if name not in (
            "handoff.lua",
            "holder.lua",
            "keeping.lua",
            "messages.lua",
        ):  # functions that others use
            assert "-- KEYS" in text, name
            assert "-- Returns" in text, name


@checkout
def test_files_stay_small() -> None:
    """A file that outgrows 400 lines is two files."""
    for folder in ("ticketlock", "stores", "brokers", "lua"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".lua"):
                assert len(path.read_text().splitlines()) <= 400, path


def test_import_is_light() -> None:
    """Importing the package imports no driver and nothing of turns; that comes with the first use.

    redis-py alone takes three times as long as all of ours, the event types half of the rest.
    """
    late = ("redis", "sqlalchemy", "pymongo", "boto3", "confluent_kafka", "pika", "starlette")
    late += ("ruamel", "rich", "ticketlock.registry", "ticketlock.events", "ticketlock.relay")
    code = f"import sys, ticketlock; print([m for m in {late!r} if m in sys.modules])"
    code += "; print(set(ticketlock.__all__) - set(dir(ticketlock)))"
    code += "; from ticketlock import *; print(ConcurrentRedisLockStore.__name__, Turn.__name__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["[]", "set()", "ConcurrentRedisLockStore Turn"]
