"""Files with what people said: those that we make are for their owner alone.

A file that is there already keeps its rights: whoever wants others to read it makes it first.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

#: Rights of a new file.
MODE = 0o600


def open_private(path: str | Path, flags: int) -> int:
    """`os.open` of a file that is made if it is not there. Raises OSError."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, MODE)


def new_private(path: str | Path) -> TextIO:
    """A text file to write, empty; one that is left of an earlier try is taken away, with its
    rights. Raises OSError.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)
    return open(open_private(path, os.O_WRONLY | os.O_EXCL), "w", encoding="utf-8")


def make_private(path: str | Path) -> None:
    """Make the file if it is not there, for a library that would make it for everybody.

    SQLite gives its other files (`-wal`, `-shm`, `-journal`) the rights of the first one. Where
    it cannot be made the library says so itself.
    """
    with suppress(OSError):
        os.close(open_private(path, os.O_RDWR))


def sync_folder(folder: str | Path) -> None:
    """Write a folder to disk: a loss of power must not undo the creation of a file in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
