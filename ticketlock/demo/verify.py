"""The judge of a demo: records in, violations out. It trusts nobody's word but the records'."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .records import BEGIN, END, LOST, Entry

#: Every kind of violation, in the order of the report.
KINDS = {
    "lost": "a message was never handled to its end",
    "duplicated": "a message was handled again after it had been handled",
    "out_of_order": "a message was handled after a later one",
    "overlaps": "a turn began while another one of its conversation was going on",
    "stale_fences": "a fence did not grow, or wrote after a higher one had begun",
    "damaged": "a line of the record makes no sense",
}


@dataclass(frozen=True)
class Violation:
    """One broken promise. `message` is None when it is about no message in particular."""

    kind: str
    conversation: str
    message: int | None
    detail: str

    def __str__(self) -> str:
        about = "" if self.message is None else f", message {self.message}"
        return f"{self.kind}: conversation {self.conversation!r}{about}: {self.detail}"


def verify(
    conversation: str,
    sent: Sequence[int],
    entries: Sequence[Entry | None],
    *,
    resent: Collection[int] = (),
    deaths: Mapping[str, float] | None = None,
) -> list[Violation]:
    """Everything that went wrong in one conversation.

    Args:
        sent: ids of its messages, in the order of arrival.
        entries: its record, in file order; None for a line that could not be read.
        resent: ids of messages that were sent more than once: their order is that of the
            ticket under which they were handled.
        deaths: when replicas were killed, as moments of the entries' clock. A turn that a
            killed replica left open is unfinished, which is nobody's fault.
    """
    known = set(sent)
    readable = [entry for entry in entries if entry is not None and entry.message in known]
    found = [
        *_damaged(entries, known),
        *_overlaps(readable, deaths or {}),
        *_stale(readable),
        *_handled_once(sent, readable),
        *_in_order(sent, readable, resent),
    ]
    return [Violation(kind, conversation, message, text) for kind, message, text in found]


_Found = Iterator[tuple[str, "int | None", str]]


def _damaged(entries: Sequence[Entry | None], known: Collection[int]) -> _Found:
    begun: set[tuple[int, int, str]] = set()
    for place, entry in enumerate(entries, 1):
        if entry is None:
            yield "damaged", None, f"line {place} cannot be read"
            continue
        turn = (entry.message, entry.fence, entry.replica)
        if entry.message not in known:
            yield "damaged", entry.message, f"line {place}: it was never sent here"
        elif entry.event == BEGIN:
            begun.add(turn)
        elif entry.event not in (END, LOST):
            yield "damaged", entry.message, f"line {place}: {entry.event!r} is no event"
        elif turn in begun:
            begun.remove(turn)
        else:
            yield "damaged", entry.message, f"line {place}: an {entry.event!r} without its begin"


def _overlaps(entries: Sequence[Entry], deaths: Mapping[str, float]) -> _Found:
    """A turn goes on from its begin to its end, or to the death of its replica."""
    going: dict[tuple[int, int, str], Entry] = {}
    for entry in entries:
        turn = (entry.message, entry.fence, entry.replica)
        if entry.event != BEGIN:
            going.pop(turn, None)
            continue
        for other in going.values():
            if deaths.get(other.replica, float("inf")) > entry.at:
                text = f"began on {entry.replica} during message {other.message}"
                yield "overlaps", entry.message, f"{text} on {other.replica}"
        going[turn] = entry


def _stale(entries: Sequence[Entry]) -> _Found:
    highest: Entry | None = None
    for entry in entries:
        # A replica that notices late that its turn is lost says so, and writes nothing else.
        if highest is not None and entry.event != LOST:
            late = entry.event == BEGIN and entry.fence <= highest.fence
            if late or entry.fence < highest.fence:
                text = f"{entry.event} under fence {entry.fence} by {entry.replica}"
                yield "stale_fences", entry.message, f"{text} after {highest.fence} had begun"
        if entry.event == BEGIN and (highest is None or entry.fence > highest.fence):
            highest = entry


def _handled_once(sent: Sequence[int], entries: Sequence[Entry]) -> _Found:
    handled_by: dict[int, Entry] = {}
    again: set[tuple[int, int, str]] = set()
    for entry in entries:
        first = handled_by.get(entry.message)
        turn = (entry.message, entry.fence, entry.replica)
        if first is None:
            if entry.event == END:
                handled_by[entry.message] = entry
        elif turn not in again:  # a begin and its end are one repetition
            again.add(turn)
            text = f"by {first.replica}, and again by {entry.replica}"
            yield "duplicated", entry.message, text
    for message in sent:
        if message not in handled_by:
            yield "lost", message, "there is no end of it"


def _in_order(sent: Sequence[int], entries: Sequence[Entry], resent: Collection[int]) -> _Found:
    place = {message: index for index, message in enumerate(sent)}
    ticket, arrival = -1, -1
    seen: set[int] = set()
    for entry in entries:
        if entry.event != END or entry.message in seen:
            continue
        seen.add(entry.message)
        arrived = -1 if entry.message in resent else place[entry.message]
        if entry.number <= ticket:
            yield "out_of_order", entry.message, f"ticket {entry.number} after {ticket}"
        elif arrived >= 0 and arrived < arrival:
            text = f"arrived before message {sent[arrival]}, handled after it"
            yield "out_of_order", entry.message, text
        ticket, arrival = max(ticket, entry.number), max(arrival, arrived)
