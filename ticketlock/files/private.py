"""Files with the content of conversations: new ones can be read by their owner only.

An existing file keeps its rights, so an operator who wants others to read it creates it first.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

#: Rights of a new file.
MODE = 0o600


def open_private(path: str | Path, flags: int) -> int:
    """`os.open` of a file, which is created if it does not exist. Raises OSError."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, MODE)


def new_private(path: str | Path) -> TextIO:
    """A new text file to write; an old one, with its rights, is removed. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return open(open_private(path, os.O_WRONLY | os.O_EXCL), "w", encoding="utf-8")


def make_private(path: str | Path) -> None:
    """Create the file if it does not exist, for a library that would make it readable for all.

    SQLite gives its other files (`-wal`, `-shm`, `-journal`) the rights of the first one. If it
    cannot be created, the library raises the error.
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
