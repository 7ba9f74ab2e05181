"""Reads the lines that are appended to a file of events, for the demo."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

from ticketlock.errors import EventBrokerConnectionError
from ticketlock.event_service.source import RawMessage, Source

from .broker import FileEventBroker

#: Seconds between two reads of a file without new lines.
_PAUSE = 0.02
#: Bytes that are read at a time to find the last line.
_BLOCK = 65536


class FileListener(Source):
    """Reads complete lines, from the end of the file at the first `open`.

    Args:
        name: ignored: readers of a file do not affect each other.
        keys: those of the section.
    """

    def __init__(self, name: str = "", *, where: str = "event_broker", **keys: Any) -> None:
        broker = FileEventBroker(where=where, **keys)
        self.address, self._path = broker.address, broker.path
        self._file: BinaryIO | None = None

    def open(self, end: float) -> None:
        if self._file is not None:
            return
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115  # `close` closes it
        except OSError as error:
            raise EventBrokerConnectionError(f"{self.address}: {error.strerror}") from error
        self._file.seek(_last_line_end(self._file))

    @property
    def is_ready(self) -> bool:
        return self._file is not None

    def read(self, limit: int, seconds: float) -> list[RawMessage]:
        end = time.monotonic() + seconds
        while not (found := self._lines(limit)) and time.monotonic() < end:
            time.sleep(_PAUSE)
        return found

    def _lines(self, limit: int) -> list[RawMessage]:
        file = self._file
        assert file is not None  # opened before
        found: list[RawMessage] = []
        while len(found) < limit:
            place = file.tell()
            line = file.readline()
            if not line.endswith(b"\n"):
                file.seek(place)  # the line is not complete yet, or will be removed
                break
            found.append(RawMessage(line, f"{self.address}, byte {place}", True, None))
        return found

    def confirm(self, messages: Sequence[RawMessage]) -> None:
        """Does nothing: a file has no confirmations."""

    def close(self, end: float) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _last_line_end(file: BinaryIO) -> int:
    """Where the last complete line ends."""
    end = os.fstat(file.fileno()).st_size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(file.fileno(), end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
