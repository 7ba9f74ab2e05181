"""The position of an export of events, in a small file that survives a crash."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError
from ...files.private import open_private, sync_folder

#: Key of the file's version; a file without it is not the state of an export.
_VERSION_KEY, _VERSION = "ticketlock_events_export", 2


@dataclass(frozen=True)
class Position:
    """The position of an export, which goes through conversations in the order of their ids.

    Attributes:
        conversation: the current or last conversation; those whose ids sort before it are
            finished. None: the export has not begun.
        history: the `history` of that conversation, in which `next_sequence` counts.
        next_sequence: number of its first event that is not exported; None: all are.
        conversations: how many are finished.
        published: how many events the broker has confirmed, in all runs.
        failed: how many events cannot be delivered, in all runs.
        complete: whether the export is finished.
    """

    conversation: str | None = None
    history: int = 0
    next_sequence: int | None = None
    conversations: int = 0
    published: int = 0
    failed: int = 0
    complete: bool = False

    def is_through(self, sender_id: str) -> bool:
        """Whether a conversation is finished."""
        if self.conversation is None or sender_id > self.conversation:
            return False
        return sender_id < self.conversation or self.next_sequence is None

    def start_in(self, sender_id: str, history: int) -> int:
        """Number of the first event of a conversation that is not exported.

        If the conversation was deleted and came back since, its `history` differs: start at 0.
        """
        same = (sender_id, history) == (self.conversation, self.history)
        return (self.next_sequence or 0) if same else 0


class StateFile:
    """The file that an export writes after every confirmed batch; a context manager.

    While it is open the file is locked, and a second export with it is refused. A crash unlocks
    it.

    Args:
        resume: continue the export of the file; False: begin a new one.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        self._resume = resume
        self._file: int | None = None
        self._options: Mapping[str, Any] = {}

    def __enter__(self) -> StateFile:
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigurationError(
                f"{self.path}: {error.strerror}: the state of the export is kept there"
            ) from error
        return self

    def _open(self) -> int:
        while True:
            file = open_private(self.path, os.O_RDWR)
            try:
                self._lock(file)
                # The process that had the lock may have replaced the file meanwhile.
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return file
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"{self.path}: another export is using this file: wait for it, or give "
                "this one a --state of its own"
            ) from None

    def begin(self, options: Mapping[str, Any]) -> Position:
        """Return the position to begin at. `options` must be the same when an export is resumed.

        Raises ConfigurationError if there is no export to resume, if it was begun with other
        options, and if a new export would overwrite the state of an interrupted one.
        """
        self._options = options
        found = self._read()
        if not self._resume:
            if found is not None and found[0].conversation is not None and not found[0].complete:
                raise ConfigurationError(
                    f"{self.path}: an export was interrupted after {found[0].published} events: "
                    "continue it with --resume, or delete the file to start again"
                )
            return Position()
        if found is None:
            raise ConfigurationError(
                f"{self.path}: there is no export to continue: leave out --resume to start one"
            )
        position, before = found
        changed = [key for key in options if before.get(key) != options[key]]
        if changed:
            raise ConfigurationError(
                f"{self.path}: the export was started with another {', another '.join(changed)}: "
                "repeat the command as it was, or delete the file to start again"
            )
        return position

    def _read(self) -> tuple[Position, dict[str, Any]] | None:
        try:
            text = self.path.read_text(encoding="utf-8")
            if not text:
                return None  # created by an export that ended before its first batch
            state = json.loads(text)
            if state.pop(_VERSION_KEY) != _VERSION:
                raise ValueError("of another version")
            return Position(**_typed(state["position"])), dict(state["options"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{self.path}: is not the state of an export ({error or 'empty'}); nothing was changed"
            ) from error

    def write(self, position: Position) -> None:
        """Write a position to disk; after a crash the file has this one or the one before."""
        state = {_VERSION_KEY: _VERSION, "options": self._options, "position": asdict(position)}
        part = self.path.with_name(self.path.name + ".part")
        try:
            file = open_private(part, os.O_WRONLY | os.O_TRUNC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(file, json.dumps(state, indent=1).encode() + b"\n")
                os.fsync(file)
                part.replace(self.path)
            except BaseException:
                os.close(file)
                raise
            self._close()
            self._file = file
            sync_folder(self.path.absolute().parent)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path}: {error.strerror}: the state of the export cannot be written"
            ) from error

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __exit__(self, *error: object) -> None:
        if self._file is not None and os.fstat(self._file).st_size == 0:
            self.path.unlink(missing_ok=True)  # no position was written
        self._close()


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a position if their types are right. Raises TypeError."""
    for name, default in asdict(replace(Position(), conversation="", next_sequence=0)).items():
        value = values[name]
        optional = value is None and name in ("conversation", "next_sequence")
        if not optional and type(value) is not type(default):
            raise TypeError(f"{name} is {value!r}")
    return values
