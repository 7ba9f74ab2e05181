"""How a conversation is stored in DynamoDB: one item with numbers, and chunks of events.

The head, in the documented table (HASH `sender_id`):
  fence, owner     the highest claim; absent before the first
  sequence, first  how many events it has ever had, and the number of the first stored one
  session, session_chunk  number of the first event of the latest session, and its chunk
  latest           greatest timestamp; absent without events
  writer           the writer that may put chunks of a write too large for one transaction
  mark             the text for later turns; absent before the first (since 0.5.0)
  born             when the head was created: the `history` of the conversation
The chunks, in `<table_name>_events` (HASH `sender_id`, RANGE `position`): each begins with the
event after the last one of the chunk before. A chunk has as many pieces as its JSON needs,
because an item has at most 400 KB. Chunks of a dead writer are behind the head's sequence, or
begin where no valid chunk begins, so they are never read.
A third table has the conversations with waiting events: see `outbox`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ticketlock.events.codec import EncodedEvent

#: Characters of JSON in one item, which stays below 400 KB with its keys.
PIECE = 300_000

#: Events in a chunk, and characters from which on no further event is added.
CHUNK_EVENTS, CHUNK_TEXT = 500, 100_000

#: Items and characters of events in one transaction; DynamoDB's limits are 100 and 4 MB.
TRANSACTION_ITEMS, TRANSACTION_TEXT = 90, 3_000_000

#: The smallest and greatest magnitude of DynamoDB's numbers.
_SMALLEST, _GREATEST = 1e-129, 9.9e125

Item = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Chunk:
    """Events `first` to `following - 1` of a conversation, as items."""

    first: int
    following: int
    items: list[Item]


def position(number: int, piece: int = 0) -> str:
    """Sort key: numbers in order, then pieces in order."""
    return f"{number:015d}.{piece:03d}"


def chunks(sender_id: str, events: Sequence[EncodedEvent], first: int) -> list[Chunk]:
    """The chunks of events numbered from `first`; a session begins a chunk of its own."""
    made = []
    for group in _groups(events):
        following = first + len(group)
        # ASCII without line breaks in an event: characters are bytes, and lines are events.
        body = "\n".join(event.text for event in group)
        pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
        items = [
            {
                "sender_id": {"S": sender_id},
                "position": {"S": position(first, number)},
                "following": {"N": str(following)},
                "pieces": {"N": str(len(pieces))},
                "body": {"S": piece},
            }
            for number, piece in enumerate(pieces)
        ]
        made.append(Chunk(first, following, items))
        first = following
    return made


def _groups(events: Sequence[EncodedEvent]) -> Iterator[Sequence[EncodedEvent]]:
    start = held = 0
    for place, event in enumerate(events):
        full = place - start == CHUNK_EVENTS or held > CHUNK_TEXT
        if place > start and (full or event.starts_session):
            yield events[start:place]
            start, held = place, 0
        held += len(event.text)
    if start < len(events):
        yield events[start:]


def batches(made: Iterable[Chunk]) -> list[list[Item]]:
    """The items of the chunks in lists, each of which fits into a transaction."""
    groups: list[list[Item]] = [[]]
    held = 0
    for chunk in made:
        for item in chunk.items:
            size = len(item["body"]["S"])
            if len(groups[-1]) == TRANSACTION_ITEMS or held + size > TRANSACTION_TEXT:
                groups.append([])
                held = 0
            groups[-1].append(item)
            held += size
    return groups


def walk(items: Iterable[Item], start: int) -> Iterator[tuple[int, list[str]]]:
    """First number and events, as JSON, of each chunk from number `start` on.

    Args:
        items: sorted by position; items that do not belong to the events are skipped.
    """
    expected, bodies = start, list[str]()
    for item in items:
        number, _, piece = item["position"]["S"].partition(".")
        if int(number) != expected or int(piece) != len(bodies):
            continue
        bodies.append(item["body"]["S"])
        if len(bodies) == int(item["pieces"]["N"]):
            yield expected, "".join(bodies).split("\n")
            expected, bodies = int(item["following"]["N"]), []


def assemble(items: Iterable[Item], start: int, end: int) -> list[str] | None:
    """The JSON of the events `start` to `end - 1`, from items sorted by position.

    None if some are missing because another writer replaced them meanwhile.
    """
    texts = [line for _, lines in walk(items, start) for line in lines]
    return texts if start + len(texts) == end else None


def last_start(events: Sequence[EncodedEvent]) -> int | None:
    """Index of the last event that starts a session."""
    return next((i for i in range(len(events) - 1, -1, -1) if events[i].starts_session), None)


def latest(events: Sequence[EncodedEvent]) -> str | None:
    """The greatest timestamp as a number of DynamoDB; None without events."""
    if not events:
        return None
    moment = max(event.timestamp or 0.0 for event in events)
    if abs(moment) < _SMALLEST:
        return "0"
    return repr(max(-_GREATEST, min(_GREATEST, moment)))


def used(name: str, text: str) -> bool:
    """Whether a placeholder occurs in an expression: DynamoDB refuses unused ones."""
    rest = text.split(name)[1:]
    return any(not (after[:1].isalnum() or after[:1] == "_") for after in rest)
