"""Events as lines of a file."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.files.private import open_private, sync_folder
from ticketlock.publishing.message import DELIVERED, Outcome
from ticketlock.settings.broker_keys import FileKeys
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import NoKeys

from ..threaded import EncodedMessage, ThreadedBroker

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Seconds between two attempts to lock the file.
_PAUSE = 0.002


class FileEventBroker(ThreadedBroker):
    """Appends one JSON object per line; a batch is delivered once it is on disk.

    Several brokers and processes may append to one file: each locks it (`flock`) while it writes
    a batch, and first removes an incomplete line of a killed process. So only the last line can
    be incomplete. If the file was renamed, as log rotation does, a new one is created.

    Args:
        path: the file; it is created, its folder is not. Default `rasa_event.log`.
        where: how error messages name these settings.
    """

    def __init__(
        self, path: str | None = None, *, where: str = "event_broker", **keys: Unpack[NoKeys]
    ) -> None:
        super().__init__()
        section = Section({"path": path, **keys}, where)
        self.path = os.path.abspath(section.read(FileKeys)["path"])
        section.finish()
        self.address = f"file {self.path}"
        self._file: int | None = None

    def spare_files(self) -> None:
        """Create no file when the broker is used; for a check of settings.

        Raises EventBrokerConnectionError if the file could not be created.
        """
        if os.path.exists(self.path):
            return
        if not os.access(os.path.dirname(self.path), os.W_OK | os.X_OK):
            raise EventBrokerConnectionError(
                f"{self.address}: check path, its folder must exist and be writable"
            )
        self.path = os.devnull

    def is_ready(self) -> bool:
        """Whether the file is open and the last batch was written."""
        return self._file is not None

    def _open(self, end: float) -> None:
        try:
            if self._file is not None and _same(self._file, self.path):
                return
            self._shut(end)
            existed = os.path.exists(self.path)
            self._file = open_private(self.path, os.O_RDWR | os.O_APPEND)
            if not existed:
                sync_folder(os.path.dirname(self.path))
        except OSError as error:
            self._shut(end)
            raise EventBrokerConnectionError(
                f"{self.address}: {error.strerror}: check path, its folder and the rights"
            ) from error

    def _send(self, batch: Sequence[EncodedMessage], end: float) -> list[Outcome]:
        self._open(end)
        assert self._file is not None  # just opened
        data = memoryview(b"".join(wire.value + b"\n" for wire in batch))
        try:
            _lock(self._file, end)
            try:
                _end_last_line(self._file)
                while data:
                    data = data[os.write(self._file, data) :]
                os.fsync(self._file)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except TimeoutError:
            raise EventBrokerConnectionError(
                f"{self.address}: another process has locked it: find it with fuser or lsof"
            ) from None
        except OSError as error:
            self._shut(end)
            raise EventBrokerConnectionError(
                f"{self.address}: {error.strerror}: free some space, or check the disk"
            ) from error
        return [DELIVERED] * len(batch)

    def _shut(self, end: float) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _lock(file: int, end: float) -> None:
    """Lock the file. Raises TimeoutError at `end`."""
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise TimeoutError from None
            time.sleep(_PAUSE)


def _end_last_line(file: int) -> None:
    """Remove an incomplete last line: its writer was killed before the event was confirmed.

    If only the line break is missing, for instance after a change in an editor, it is added.
    """
    size = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == b"\n":
        return
    start, tail = size, b""
    while start and b"\n" not in tail:
        length = min(start, 65536)
        start -= length
        tail = os.pread(file, length, start) + tail
    line = tail[tail.rfind(b"\n") + 1 :]
    try:
        json.loads(line)
    except ValueError:
        os.ftruncate(file, size - len(line))
    else:
        os.write(file, b"\n")


def _same(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
