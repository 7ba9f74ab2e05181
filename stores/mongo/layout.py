"""How a conversation is stored in MongoDB: the current document, and buckets of older events.

The current document, `_id` the conversation id:
  fence, owner     the highest claim
  sequence, first  how many events it has ever had, and the number of the first stored one
  session, session_bucket  number of the first event of the latest session, and the bucket that
                   has it (None: it is inline, or the first of its bucket)
  latest           greatest timestamp; None without events
  tail, tail_first, tail_bytes  the most recent events as JSON, inline
  runs             names under which valid buckets were written. A name is used once, so buckets
                   of a dead or late writer are never read.
  mark             the text for later turns; absent before the first (since 0.5.0)
  born, outbox, outbox_since, outbox_at, relay  see `outbox`
A bucket: sender_id, run, first (number of its first event), events (JSON).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from bson import Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util

from ticketlock.events.codec import EncodedEvent, finite
from ticketlock.plain_json import plain

#: Bytes of events in a document: 16 MB less its other fields.
DOCUMENT_BYTES = 15 * 1024 * 1024

#: Number and bytes of inline events from which on the oldest are moved to buckets.
TAIL_EVENTS, TAIL_BYTES = 100, 256 * 1024

#: Number and bytes of inline events that stay; also the size of a bucket, unless an event is
#: larger.
KEPT_EVENTS, KEPT_BYTES = 50, 128 * 1024

#: Bytes that BSON adds to each text of an array, as an upper limit.
_OVERHEAD = 16


def size(texts: Sequence[str]) -> int:
    """Bytes that the texts take in a document."""
    return sum(len(text) + _OVERHEAD for text in texts)


def new_run() -> str:
    return str(ObjectId())


def last_start(events: Sequence[EncodedEvent]) -> int | None:
    """Index of the last event that starts a session."""
    return next((i for i in range(len(events) - 1, -1, -1) if events[i].starts_session), None)


def latest(events: Sequence[EncodedEvent]) -> float | None:
    """The greatest timestamp, an absent one being 0; None without events."""
    return max((event.timestamp or 0.0 for event in events), default=None)


def moment(event: object) -> float:
    """The timestamp of a documented event; 0 without a valid one."""
    timestamp = event.get("timestamp") if isinstance(event, dict) else None
    return finite(timestamp) or 0.0


def plain_event(event: Any) -> Any:
    """A documented event as plain JSON, without BSON's times, ids, bytes and decimal numbers."""
    if isinstance(event, dict) and isinstance(moment := event.get("timestamp"), datetime):
        event = {**event, "timestamp": moment.replace(tzinfo=timezone.utc).timestamp()}
    return plain(_translated(event))


def _translated(value: Any) -> Any:
    """The value without the BSON types that `plain` does not know."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, (Regex, Timestamp, MinKey, MaxKey, Code, DBRef)):
        return _translated(json_util.default(value))
    if isinstance(value, dict):
        return {key: _translated(inner) for key, inner in value.items()}
    return [_translated(inner) for inner in value] if isinstance(value, list) else value


def cut(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in parts, one for each bucket."""
    start = held = 0
    for place, text in enumerate(texts):
        full = place - start == KEPT_EVENTS or held + len(text) > KEPT_BYTES
        if full and place > start:
            yield texts[start:place]
            start, held = place, 0
        held += len(text)
    if start < len(texts):
        yield texts[start:]


def surplus(tail: Sequence[str]) -> int:
    """How many of the oldest inline events to move to buckets."""
    kept = total = 0
    for text in reversed(tail):
        total += len(text)
        if kept == KEPT_EVENTS or total > KEPT_BYTES:
            break
        kept += 1
    return len(tail) - kept


def buckets(sender_id: str, run: str, first: int, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The buckets of events that begin with number `first`."""
    made = []
    for piece in cut(texts):
        made.append({"sender_id": sender_id, "run": run, "first": first, "events": list(piece)})
        first += len(piece)
    return made


def bucket_of(made: Sequence[dict[str, Any]], number: int) -> int | None:
    """Number of the first event of the bucket with event `number`; None if these lack it."""
    found = [b["first"] for b in made if b["first"] <= number < b["first"] + len(b["events"])]
    return found[0] if found else None


def whole(
    sender_id: str, events: Sequence[EncodedEvent], first: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fields of a current document with these events only, and buckets to write before it."""
    texts = [event.text for event in events]
    run = new_run()
    made = buckets(sender_id, run, first, texts) if size(texts) > DOCUMENT_BYTES else []
    tail = [] if made else texts
    end = first + len(texts)
    session = first + (last_start(events) or 0)
    fields = {
        "sequence": end,
        "first": first,
        "session": session,
        "session_bucket": bucket_of(made, session),
        "latest": latest(events),
        "tail": tail,
        "tail_first": end - len(tail),
        "tail_bytes": size(tail),
        "runs": [run],
    }
    return fields, made
