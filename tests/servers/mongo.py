"""A MongoDB: the one of TICKETLOCK_TEST_MONGO_URL, or a SecantusDB as a child of the tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from . import missing
from .processes import child, free_port, persistent, temporary_folder

VARIABLE = "TICKETLOCK_TEST_MONGO_URL"


@contextmanager
def tracker_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    """Sections of a `tracker_store`, each for a new, empty database."""
    numbers = count()
    with url() as found:
        yield lambda: {
            "type": "mongod",
            "url": found,
            "db": f"ticketlock-test-{os.getpid()}-{next(numbers)}",
        }


@contextmanager
def url() -> Iterator[str]:
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    with server() as started:
        yield started


def server() -> AbstractContextManager[str]:
    """Start a server that has written to its log what it acknowledges, as MongoDB does."""
    return persistent(_server, "SecantusDB")


@contextmanager
def _server() -> Iterator[str]:
    command = Path(sys.executable).with_name("secantusd-py")
    if importlib.util.find_spec("secantus") is None or not command.exists():
        missing("a MongoDB", f"pip install secantusdb, or set {VARIABLE}")
    with temporary_folder() as folder:
        port = free_port()
        found = f"mongodb://127.0.0.1:{port}"
        words = [str(command), "--host", "127.0.0.1", "--port", str(port), "--sync-on-commit"]
        words += ["--storage-path", f"{folder}/data"]
        env = {**os.environ, "HOME": folder}  # no configuration file of somebody's home
        with child(words, lambda: _answers(found), Path(folder, "log"), cwd=folder, env=env):
            yield found


def _answers(found: str) -> bool:
    with MongoClient[dict[str, Any]](found, serverSelectionTimeoutMS=300) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True
