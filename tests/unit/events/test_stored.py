"""A stored event is published as if its fields had been read, and is read when they are wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ticketlock.events.codec import encode_events
from ticketlock.events.stored import StoredEvent
from ticketlock.publishing.message import BrokerMessage

EVENTS: list[dict[str, Any]] = [
    {"event": "user"},
    {"event": "user", "text": 'Grüße "} \\ \n\u2028 \U0001f600', "parse_data": {"a": [1, None]}},
    {"event": "bot", "sender_id": "somebody else", "timestamp": 1.5},
    {"event": "bot", "text": "see", "data": {"sequence": 7}},
    {"event": "slot", "name": "history", "value": {"sender_id": []}, "sequence": 3, "history": 4},
]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("history", [0, 1_795_259_858_310])
@pytest.mark.parametrize("sender_id", ["c", 'ü"\\'])
def test_published_text(event: dict[str, Any], history: int, sender_id: str) -> None:
    """Byte for byte what the plain event gives."""
    (encoded,) = encode_events([event])
    stored = BrokerMessage(sender_id, 12, StoredEvent(encoded.text), history=history)
    plain = BrokerMessage(sender_id, 12, event, history=history)
    assert stored.encode() == plain.encode()
    assert json.loads(stored.encode()) == plain.document() == stored.document()


def test_read() -> None:
    event = StoredEvent('{"event": "user", "text": "a"}')
    assert event == {"event": "user", "text": "a"}
    assert dict(event) == {**event}
    assert (len(event), event["text"], event.get("name")) == (2, "a", None)
    assert event != StoredEvent('{"event": "user"}')
    assert "user" in repr(event)


def test_a_name_that_is_no_text_for_others() -> None:
    """Half a surrogate in a conversation's id cannot be sent, stored or not."""
    with pytest.raises(ValueError, match="not JSON"):
        BrokerMessage("\ud800", 1, StoredEvent('{"event": "user"}')).encode()
