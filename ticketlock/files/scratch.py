"""A folder for temporary files, and processes, that do not outlive the process that made them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from . import watchdog
from .watchdog import OWNER, PROCESSES

#: Of the names of all our folders.
_PREFIX = "ticketlock-"
#: What is started writes its id into its file, which it has as stdin, and keeps the file open.
_START = 'echo $$ >&0; exec "$@" </dev/null'
#: Folders that this process has looked through.
_swept: set[str] = set()


class Scratch:
    """A temporary folder; a context manager.

    On leaving, processes that were started by `tie` are killed if they still run, and the folder
    is removed. When this process is killed, a small process that watches it does the same. What
    that one could not do the next Scratch does that any process of this user makes.

    Args:
        what: a part of the folder's name.
        place: where to make it; default: where the system has its temporary files.
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
        """What to start in the block: a command, and options of `subprocess.Popen` or asyncio.

        The process is the one of the given command: it has its id, and reads nothing.
        """
        file, _ = tempfile.mkstemp(dir=self.path / PROCESSES)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # the process has it, too, and then it alone
            words = ["/bin/sh", "-c", _START, "sh", *command]
            yield words, {"stdin": file, "pass_fds": (file,), "start_new_session": True}
        finally:
            os.close(file)

    def close(self) -> None:
        """End what still runs, and remove the folder. A fork of this process does neither."""
        if self._made_by != os.getpid():
            return
        self._made_by = 0
        self._watchdog.kill()
        self._watchdog.communicate()
        watchdog.clear(str(self.path))
        os.close(self._owner)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _own(place: Path) -> int | None:
    """Make an owner file and lock it; None if another process took the folder for a left one."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if place.exists():
            return file
        os.close(file)
    return None


def sweep(place: str) -> None:
    """Clear away what processes of this user that are gone have left in a folder."""
    for entry in os.scandir(place):
        if not entry.name.startswith(_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(FileNotFoundError):  # another one clears it, too
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                _sweep_one(entry.path)


def _sweep_one(folder: str) -> None:
    try:
        owner = os.open(os.path.join(folder, OWNER), os.O_RDWR)
    except FileNotFoundError:
        with contextlib.suppress(OSError):  # it is of another kind, and not empty
            os.rmdir(folder)  # its maker was killed right then, or makes another one
        return
    try:
        if not watchdog.locked(owner):
            watchdog.clear(folder)
    finally:
        os.close(owner)
