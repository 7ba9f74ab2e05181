"""Records of when turns began and ended, which survive the death of their process.

There is one file per conversation with one JSON line per record, appended by one `write`: the
order of the lines is the order of the events, and SIGKILL loses none. Which messages were handled
is decided by the tracker store.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

#: A turn begins; its events are written and its lock is still held; the lock was lost or the
#: bot was stopped. A turn whose write fails has a begin only.
BEGIN, END, LOST = "begin", "end", "lost"


@dataclass(frozen=True)
class TurnRecord:
    """One line of a file: a turn began or ended.

    Attributes:
        event: BEGIN, END or LOST.
        number: the ticket number of the turn.
        replica: the process that wrote it; a restarted one has another name.
        at: moment of `time.monotonic()`, which is the same for all processes of a machine.
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
        """Append a record with the current time."""
        fields = {"m": message, "e": event, "n": number, "f": fence, "r": replica}
        line = json.dumps({**fields, "t": time.monotonic()}).encode() + b"\n"
        file = os.open(self._path(conversation), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def read(self, conversation: str) -> list[TurnRecord | None]:
        """All records in the order of writing; None for an invalid line."""
        try:
            return [_parse(line) for line in self._path(conversation).read_bytes().splitlines()]
        except FileNotFoundError:
            return []


def _parse(line: bytes) -> TurnRecord | None:
    try:
        fields = json.loads(line)
        return TurnRecord(*(fields[key] for key in "menfrt"))
    except (ValueError, TypeError, KeyError):
        return None
