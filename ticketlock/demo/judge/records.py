"""When the demo's turns began and ended, written where a killed process cannot take it back.

One small file per conversation, one JSON line per entry, each appended by one `write`: the
order of the lines is the order in which things happened, and a SIGKILL loses none of them.
What was handled is not decided here but in the tracker store.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

#: A turn begins; its events have been written and its lock is still held; or it is not known
#: whether they were, because the lock was lost or the write failed.
BEGIN, END, LOST = "begin", "end", "lost"


@dataclass(frozen=True)
class Entry:
    """One line of a record.

    Attributes:
        event: BEGIN, END or LOST.
        number: the ticket number of the turn.
        replica: the process that wrote the line; a restarted one has another name.
        at: moment of `time.monotonic()`, which all processes of a machine share.
    """

    message: int
    event: str
    number: int
    fence: int
    replica: str
    at: float


class Records:
    """The records in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, conversation: str) -> Path:
        return self._folder / hashlib.sha256(conversation.encode()).hexdigest()

    def write(
        self, conversation: str, message: int, event: str, number: int, fence: int, replica: str
    ) -> None:
        """Append one entry, dated now."""
        fields = {"m": message, "e": event, "n": number, "f": fence, "r": replica}
        line = json.dumps({**fields, "t": time.monotonic()}).encode() + b"\n"
        file = os.open(self._path(conversation), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def read(self, conversation: str) -> list[Entry | None]:
        """All entries in the order they were written; None for a line that is no entry."""
        try:
            return [_parse(line) for line in self._path(conversation).read_bytes().splitlines()]
        except FileNotFoundError:
            return []


def _parse(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        return Entry(*(fields[key] for key in "menfrt"))
    except (ValueError, TypeError, KeyError):
        return None
