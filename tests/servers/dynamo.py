"""A DynamoDB: the one of TICKETLOCK_TEST_DYNAMO_URL, or moto as a child process of the tests."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from . import missing
from .processes import child, free_port, persistent, temporary_folder

VARIABLE = "TICKETLOCK_TEST_DYNAMO_URL"

#: Local servers take any credentials, but boto3 insists on having some.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@contextmanager
def tracker_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    """Sections of a `tracker_store`, each for tables of its own."""
    numbers = count()
    with url() as found:
        yield lambda: {
            "type": "dynamo",
            "endpoint_url": found,
            "table_name": f"states-{os.getpid()}-{next(numbers)}",
        }


@contextmanager
def url() -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        os.environ.setdefault(name, value)
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    with server() as started:
        yield started


def server() -> AbstractContextManager[str]:
    return persistent(_server, "moto")


@contextmanager
def _server() -> Iterator[str]:
    if importlib.util.find_spec("moto") is None:
        missing("a DynamoDB", f'pip install "moto[server]", or set {VARIABLE}')
    app = Path(__file__).with_name("dynamo_app.py")
    with temporary_folder() as folder:
        port = free_port()
        words = [sys.executable, str(app), str(port)]
        with child(words, lambda: _listens(port), Path(folder, "log"), cwd=folder):
            yield f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
