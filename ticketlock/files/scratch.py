"""A folder for temporary files and processes that do not outlive this process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import watchdog
from .watchdog import OWNER, PROCESSES

#: Prefix of the names of our folders.
_PREFIX = "ticketlock-"
#: A started process writes its id into its file, which is its stdin, and keeps it open.
_START = 'echo $$ >&0; exec "$@" </dev/null'
#: Folders that this process has swept.
_swept: set[str] = set()


class Scratch:
    """A temporary folder; a context manager.

    On leaving, processes started by `tie` are killed, and the folder is removed. If this process
    is killed, a small watchdog process does the same. If that fails too, the next Scratch of any
    process of this user does.

    Args:
        what: part of the folder's name.
        place: where to create it; default: the system's folder for temporary files.
    """

    def __init__(self, what: str, place: str | None = None) -> None:
        place = place or tempfile.gettempdir()
        if place not in _swept:
            _swept.add(place)
            sweep(place)
        self._made_by = os.getpid()
        owner: int | None = None
        while owner is None:
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-", dir=place))
            owner = _own(self.path / OWNER)
        self._owner = owner
        (self.path / PROCESSES).mkdir()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    @contextlib.contextmanager
    def tie(self, command: Sequence[str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """The command to start in the block, and options for `subprocess.Popen` or asyncio.

        The process that is started becomes the given command, with an empty stdin.
        """
        file, _ = tempfile.mkstemp(dir=self.path / PROCESSES)
        try:
            fcntl.flock(
                file, fcntl.LOCK_EX
            )  # the process inherits it, and has it alone after the block
            args = ["/bin/sh", "-c", _START, "sh", *command]
            yield args, {"stdin": file, "pass_fds": (file,), "start_new_session": True}
        finally:
            os.close(file)

    def close(self) -> None:
        """Kill the processes and remove the folder; in a fork of this process it does nothing."""
        if self._made_by != os.getpid():
            return
        self._made_by = 0
        self._watchdog.kill()
        self._watchdog.communicate()
        watchdog.clear(str(self.path))
        os.close(self._owner)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _own(place: Path) -> int | None:
    """Create and lock the owner file; None if another process has swept the folder."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if place.exists():
            return file
        os.close(file)
    return None


def sweep(place: str) -> None:
    """Remove the folders of dead processes of this user."""
    for entry in os.scandir(place):
        if not entry.name.startswith(_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                _sweep_one(entry.path)


def _sweep_one(folder: str) -> None:
    try:
        owner = os.open(os.path.join(folder, OWNER), os.O_RDWR)
    except FileNotFoundError:
        with contextlib.suppress(OSError):  # it is not empty, so it is not ours
            os.rmdir(folder)  # its process was killed at that moment, or uses another folder
        return
    try:
        if not watchdog.locked(owner):
            watchdog.clear(folder)
    finally:
        os.close(owner)
