"""The judge of turns: finds violations in the stored history and in the record.

The tracker store shows which messages were handled, by which replica, under which fence and in
which order. The record of the bots shows when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ...events.event import Event
from ..traffic import Message
from .records import BEGIN, END, LOST, TurnRecord
from .stored import Finding, StoredTurn, read_turns

#: Every kind of violation, in the order of the report.
KINDS = {
    "lost": "a message was not handled, or what its turn had written is gone",
    "duplicated": "a message was handled again after it had been handled",
    "torn": "only a part of a turn was written, or another write came in between",
    "out_of_order": "a message was handled after a later one",
    "overlaps": "a turn began before another turn had written",
    "stale_fences": "a turn was written after one with the same or a higher fence",
    "damaged": "stored events or the record are inconsistent",
}


@dataclass(frozen=True)
class Violation:
    """One broken promise; `message` is None if it is not about one message."""

    kind: str
    conversation: str
    message: int | None
    detail: str

    def __str__(self) -> str:
        about = "" if self.message is None else f", message {self.message}"
        return f"{self.kind}: conversation {self.conversation!r}{about}: {self.detail}"


def verify(
    conversation: str,
    sent: Sequence[Message],
    events: Sequence[Event],
    entries: Sequence[TurnRecord | None],
    *,
    resent: Collection[int] = (),
) -> list[Violation]:
    """The violations in one conversation.

    Args:
        sent: its messages, in the order of arrival.
        events: its whole history in the tracker store.
        entries: its record, in file order; None for an invalid line.
        resent: ids of messages that were sent more than once: their order is that of their
            last tickets.

    A turn that began and was not written is no violation: its replica was killed, or its write
    was refused. The same holds for an end that a killed replica could not record.
    """
    texts = {message.id: message.text for message in sent}
    turns, halves, broken = read_turns(events, texts)
    readable = [entry for entry in entries if entry is not None]
    found = [
        *broken,
        *_handled_once(list(texts), turns, halves, readable),
        *_in_order(list(texts), turns, resent),
        *_fences(turns),
        *_unread(turns),
        *_overlaps(turns, readable),
        *_damaged(turns, entries),
    ]
    return [Violation(kind, conversation, message, text) for kind, message, text in found]


def _key(turn: StoredTurn | TurnRecord) -> tuple[int, int, str]:
    """The key of a turn, the same for its stored events and its record."""
    return turn.message, turn.fence, turn.replica


def _handled_once(
    sent: Sequence[int],
    turns: Sequence[StoredTurn],
    halves: Collection[int],
    entries: Sequence[TurnRecord],
) -> Iterator[Finding]:
    first: dict[int, StoredTurn] = {}
    for turn in turns:
        if turn.message in first:
            text = f"by {first[turn.message].replica}, and again by {turn.replica}"
            yield "duplicated", turn.message, text
        first.setdefault(turn.message, turn)
    for message in sent:
        if message not in first and message not in halves:
            yield "lost", message, "nothing is stored for it"
    stored = {_key(turn) for turn in turns}
    for entry in entries:
        if entry.event == END and entry.message in first and _key(entry) not in stored:
            text = f"the turn of {entry.replica} under fence {entry.fence} is not stored any more"
            yield "lost", entry.message, text


def _in_order(
    sent: Sequence[int], turns: Sequence[StoredTurn], resent: Collection[int]
) -> Iterator[Finding]:
    place = {message: index for index, message in enumerate(sent)}
    ticket, arrival = -1, -1
    seen: set[int] = set()
    for turn in turns:
        if turn.message in seen or turn.message not in place:
            continue
        seen.add(turn.message)
        arrived = -1 if turn.message in resent else place[turn.message]
        if turn.number <= ticket:
            yield "out_of_order", turn.message, f"ticket {turn.number} after {ticket}"
        elif arrived >= 0 and arrived < arrival:
            text = f"arrived before message {sent[arrival]}, handled after it"
            yield "out_of_order", turn.message, text
        ticket, arrival = max(ticket, turn.number), max(arrival, arrived)


def _fences(turns: Sequence[StoredTurn]) -> Iterator[Finding]:
    highest = 0
    for turn in turns:
        if turn.fence <= highest:
            text = f"fence {turn.fence} of {turn.replica} after fence {highest}"
            yield "stale_fences", turn.message, text
        highest = max(highest, turn.fence)


def _unread(turns: Sequence[StoredTurn]) -> Iterator[Finding]:
    """Turns that had not read all events before theirs: they began while those were written."""
    for turn in turns:
        if turn.seen < turn.place:
            text = f"it had read {turn.seen} of the {turn.place} events before it"
            yield "overlaps", turn.message, text


def _overlaps(turns: Sequence[StoredTurn], entries: Sequence[TurnRecord]) -> Iterator[Finding]:
    """Turns that began during another one; only stored turns count, and ends that are recorded."""
    stored = {_key(turn) for turn in turns}
    whole = stored & {_key(entry) for entry in entries if entry.event == END}
    going: dict[tuple[int, int, str], TurnRecord] = {}
    for entry in entries:
        if entry.event != BEGIN:
            going.pop(_key(entry), None)
            continue
        if _key(entry) in stored:
            for other in going.values():
                text = f"began on {entry.replica} during message {other.message}"
                yield "overlaps", entry.message, f"{text} on {other.replica}"
        if _key(entry) in whole:
            going[_key(entry)] = entry


def _damaged(
    turns: Sequence[StoredTurn], entries: Sequence[TurnRecord | None]
) -> Iterator[Finding]:
    begun: set[tuple[int, int, str]] = set()
    open_: set[tuple[int, int, str]] = set()
    for line, entry in enumerate(entries, 1):
        if entry is None:
            yield "damaged", None, f"line {line} of the record cannot be read"
        elif entry.event == BEGIN:
            begun.add(_key(entry))
            open_.add(_key(entry))
        elif entry.event not in (END, LOST):
            yield "damaged", entry.message, f"line {line}: {entry.event!r} is not a known event"
        elif _key(entry) in open_:
            open_.remove(_key(entry))
        else:
            yield "damaged", entry.message, f"line {line}: an {entry.event!r} without its begin"
    for turn in turns:
        if _key(turn) not in begun:
            yield "damaged", turn.message, f"the record has no begin for a turn of {turn.replica}"
