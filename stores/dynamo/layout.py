"""How a conversation lies in DynamoDB: one item of numbers, and chunks of events beside it.

The head, in the documented table (HASH `sender_id`):
  fence, owner     the highest claim; absent before the first
  sequence, first  events it has ever had, number of the first one that is kept
  session, session_chunk  where the latest session starts, and the chunk which has that event
  latest           greatest timestamp; absent without events
  writer           who may put the chunks of a write that is too large for one transaction
  born             when the head was made, which tells two lives of a conversation apart
The chunks, in `<table_name>_events` (HASH `sender_id`, RANGE `position`): each begins with the
event after the last one of the chunk before. A chunk has as many pieces as its JSON needs,
because an item ends at 400 KB. What a dead writer leaves lies behind the head's sequence, or
between the beginnings of chunks: reading from chunk to chunk never meets it.
What waits to be published is in a third table: see `_dynamo_outbox`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ticketlock.events.codec import EncodedEvent

#: Characters of JSON in one item; with the keys it stays below 400 KB.
PIECE = 300_000

#: Events in a chunk, and characters from which on it takes no further one.
CHUNK_EVENTS, CHUNK_TEXT = 500, 100_000

#: Items, and characters, of events that go into one transaction; DynamoDB takes 100 and 4 MB.
TRANSACTION_ITEMS, TRANSACTION_TEXT = 90, 3_000_000

#: Magnitudes that DynamoDB's numbers have.
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
        # ASCII without line ends, so characters are bytes and lines are events.
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
    """The items of the chunks in lists that fit into a transaction each."""
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
        items: in the order of their positions; what is no part of the history is left out.
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
    """The JSON of the events `start` to `end - 1` from items in the order of their positions.

    None if they are not all there: somebody replaced them meanwhile.
    """
    texts = [line for _, lines in walk(items, start) for line in lines]
    return texts if start + len(texts) == end else None


def last_start(events: Sequence[EncodedEvent]) -> int | None:
    """Place of the last event that starts a session."""
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
    """Whether a placeholder occurs: DynamoDB refuses those that do not."""
    rest = text.split(name)[1:]
    return any(not (after[:1].isalnum() or after[:1] == "_") for after in rest)
