"""Events as lines of a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_broker import DELIVERED, Outcome
from ticketlock.settings import Section

from ._worker import ThreadedBroker, Wire

#: Keys of the section, in the order of the README's table.
FILE_KEYS = ("path",)


class FileEventBroker(ThreadedBroker):
    """Appends one JSON object a line; a batch counts as delivered once it is on the disk.

    Several brokers and processes may append to one file. A file that was renamed away, as
    log rotation does, is made anew.

    Args:
        path: the file; made if it is not there, its folder is not.
    """

    def __init__(
        self, path: str | None = None, *, where: str = "event_broker", **keys: Any
    ) -> None:
        super().__init__()
        section = Section(keys if path is None else {"path": path, **keys}, where)
        self.path = os.path.abspath(section.text("path", "rasa_event.log"))
        section.finish()
        self.address = f"file {self.path}"
        self._file: int | None = None

    def is_ready(self) -> bool:
        """Whether the file is open, and the last batch could be written."""
        return self._file is not None

    def _open(self, end: float) -> None:
        try:
            if self._file is not None and _same(self._file, self.path):
                return
            self._shut(end)
            existed = os.path.exists(self.path)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")  # a writer died within its line: end it
            if not existed:
                _sync_folder(os.path.dirname(self.path))
        except OSError as error:
            self._shut(end)
            raise EventBrokerConnectionError(
                f"{self.address}: {error.strerror}: check path, its folder and the rights"
            ) from error

    def _send(self, batch: Sequence[Wire], end: float) -> list[Outcome]:
        self._open(end)
        assert self._file is not None  # just opened
        data = memoryview(b"".join(wire.value + b"\n" for wire in batch))
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            self._shut(end)  # the next batch opens it again and ends a torn line
            raise EventBrokerConnectionError(
                f"{self.address}: {error.strerror}: free some space, or check the disk"
            ) from error
        return [DELIVERED] * len(batch)

    def _shut(self, end: float) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _same(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _sync_folder(folder: str) -> None:
    """Without this a new file's name may not survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
