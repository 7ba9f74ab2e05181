"""Export, import and copy of the events of tracker stores; all of it counted and verified.

A conversation that fails does not stop the others: the tally lists it. A store that cannot be
reached does.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ..aio.running import result
from ..checks import check_sender_id
from ..errors import InvalidEvent, TicketLockError, TrackerStoreConnectionError
from ..events.codec import encode_events
from ..events.typed import RASA_TYPES
from ..plain_json import plain
from .store import TrackerStore
from .tracker import Tracker

#: Called with (conversations done, conversations in all).
Progress = Callable[[int, int], None]

#: Key in the last line of an export; a file without that line is incomplete.
_TRAILER = "ticketlock_export"


class TransferError(TicketLockError):
    """A file is broken, or a copy differs from its source; the text says where."""


@dataclass
class Tally:
    """What an export, import or copy has done.

    Attributes:
        skipped: conversations that the target already had, with the same events.
        failed: conversation -> reason.
        gone: conversations that were listed first and had no events when they were read.
        left_out: type of events that Rasa cannot read -> how many of them were left out.
    """

    conversations: int = 0
    events: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """How many conversations have been processed."""
        return self.conversations + self.skipped + len(self.failed) + len(self.gone)

    @contextmanager
    def naming(self, sender_id: str) -> Iterator[None]:
        """Note an error of the block as the failure of this conversation."""
        try:
            yield
        except TrackerStoreConnectionError:
            raise
        except _FAILURES as error:
            ours = isinstance(error, TicketLockError)
            self.failed[sender_id] = str(error) if ours else f"{type(error).__name__}: {error}"


#: Errors of one conversation. A custom store may raise any of these for broken data.
_FAILURES = (TicketLockError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


def checksum(events: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the events in order; the order of their keys does not matter."""
    digest = hashlib.sha256()
    for event in events:
        digest.update(json.dumps(event, sort_keys=True, separators=(",", ":")).encode())
        digest.update(b"\n")
    return digest.hexdigest()


async def history_of(store: TrackerStore, sender_id: str) -> list[dict[str, Any]]:
    """All events of a conversation, as an import accepts them. Raises TicketLockError."""
    check_sender_id(sender_id)
    tracker = await result(store.retrieve_full_tracker(sender_id))
    events = [event.as_dict() for event in tracker.events] if tracker else []
    try:
        encode_events(events)
    except InvalidEvent:  # from a custom store, or with a number like 1e999
        events = [plain(event) for event in events]
        encode_events(events)
    return events


def line_of(sender_id: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    """One conversation, as `tracker show --json` prints it and as a line of an export."""
    return {"sender_id": sender_id, "events": events, "checksum": checksum(events)}


def as_rasa_reads(events: list[dict[str, Any]], left_out: Counter[str]) -> list[dict[str, Any]]:
    """The events of types that Rasa 3.6 knows; those of users with the `parse_data` it needs."""
    known = [event for event in events if event["event"] in RASA_TYPES]
    left_out.update(event["event"] for event in events if event["event"] not in RASA_TYPES)
    return [
        {**event, "parse_data": event.get("parse_data") or {}}
        if event["event"] == "user"
        else event
        for event in known
    ]


async def export(
    store: TrackerStore, out: TextIO, progress: Progress, *, for_rasa: bool = False
) -> Tally:
    """Write every conversation as a JSON line, and a last line with the counts.

    Conversations that cannot be read are left out and listed in `Tally.failed`.

    Args:
        for_rasa: change events so that Rasa can read them, or leave them out.
    """
    tally, digest = Tally(), hashlib.sha256()
    ids = sorted(await result(store.keys()))
    for sender_id in ids:
        with tally.naming(sender_id):
            events = await history_of(store, sender_id)
            if for_rasa:
                events = as_rasa_reads(events, tally.left_out)
            if events:
                text = json.dumps(line_of(sender_id, events))
                digest.update(text.encode())
                out.write(text + "\n")
                tally.conversations += 1
                tally.events += len(events)
            else:
                tally.gone.append(sender_id)
        progress(tally.done, len(ids))
    counts = {"conversations": tally.conversations, "events": tally.events}
    out.write(json.dumps({_TRAILER: 1, **counts, "sha256": digest.hexdigest()}) + "\n")
    return tally


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, text.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error  # without the file name
        raise TransferError(f"{path}: cannot be read: {why}") from error


def check_export(path: Path) -> Tally:
    """Check a whole export file before any of it is imported.

    Raises TransferError with the line; an incomplete file is refused.
    """
    tally, digest = Tally(), hashlib.sha256()
    trailer: dict[str, Any] | None = None
    for number, text in _lines(path):
        where = f"{path}: line {number}"
        if trailer is not None:
            raise TransferError(f"{where}: there is text after the last line")
        try:
            line = json.loads(text)
        except ValueError as error:
            raise TransferError(f"{where}: is not JSON, the file may be cut off: {error}") from None
        if not isinstance(line, dict):
            raise TransferError(f"{where}: is not a JSON object")
        if _TRAILER in line:
            trailer = line
            continue
        tally.events += _check_line(line, where)
        tally.conversations += 1
        digest.update(text.encode())
    if trailer is None:
        raise TransferError(
            f"{path}: the last line, with the counts, is missing: the file has been cut off"
        )
    found = (tally.conversations, tally.events, digest.hexdigest())
    if found != (trailer.get("conversations"), trailer.get("events"), trailer.get("sha256")):
        raise TransferError(
            f"{path}: the counts in the last line do not match: the file has been changed"
        )
    return tally


def _check_line(line: dict[str, Any], where: str) -> int:
    events = line.get("events")
    if not isinstance(events, list) or not events:
        raise TransferError(f"{where}: has no list of events")
    try:
        check_sender_id(line.get("sender_id"))
        encode_events(events)
    except TicketLockError as error:
        raise TransferError(f"{where}: {error}") from error
    return len(events)


async def load(
    store: TrackerStore, path: Path, progress: Progress, *, replace: bool = False
) -> Tally:
    """Store every conversation of an export, after checking the whole file.

    A conversation that exists with the same events is skipped; one with other events fails,
    unless `replace`. May be repeated after an interruption.
    """
    total, tally = check_export(path).conversations, Tally()
    for number, text in _lines(path):
        line = json.loads(text)
        if _TRAILER in line:
            break
        with tally.naming(line["sender_id"]):
            there = await history_of(store, line["sender_id"])
            if there and there != line["events"] and not replace:
                raise TransferError(
                    f"{path}: line {number}: conversation {line['sender_id']!r} has other "
                    "events here and was left unchanged (--replace replaces it)"
                )
            await _put(store, line["sender_id"], line["events"], there, tally)
        progress(tally.done, total)
    return tally


async def migrate(source: TrackerStore, target: TrackerStore, progress: Progress) -> Tally:
    """Copy every conversation that is missing or different in the target; verify each.

    A second run skips what agrees. The source must not change meanwhile; changes are found by
    the verification and copied by the next run.
    """
    ids, tally = sorted(await result(source.keys())), Tally()
    for sender_id in ids:
        with tally.naming(sender_id):
            if events := await history_of(source, sender_id):
                there = await history_of(target, sender_id)
                await _put(target, sender_id, events, there, tally)
            else:
                tally.gone.append(sender_id)
        progress(tally.done, len(ids))
    return tally


async def _put(
    store: TrackerStore,
    sender_id: str,
    events: list[dict[str, Any]],
    there: list[dict[str, Any]],
    tally: Tally,
) -> None:
    """Replace the events of a conversation by `events`, and read them back."""
    if there == events:
        tally.skipped += 1
        return
    await store.update(Tracker.from_dict(sender_id, events))
    kept = await history_of(store, sender_id)
    if len(kept) != len(events) or checksum(kept) != checksum(events):
        raise TransferError(
            f"conversation {sender_id!r}: {len(events)} events were written, {len(kept)} were "
            "read back, and they differ: is another program writing?"
        )
    tally.conversations += 1
    tally.events += len(events)
