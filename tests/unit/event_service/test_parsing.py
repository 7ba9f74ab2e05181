"""What is an event, and what is said about a message that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ticketlock.event_service.parsing import parse
from ticketlock.event_service.records import Limits, Received, Reject
from ticketlock.event_service.source import RawMessage
from ticketlock.publishing.message import HISTORY_FIELD, SEQUENCE_FIELD

SERVER = Limits(255, nul=False)


def delivery(body: Any, *, exact: bool = False) -> RawMessage:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawMessage(raw, "t/0/7" if exact else "queue q", exact, None)


def event(body: Any, limits: Limits = SERVER, *, exact: bool = False) -> Received:
    found = parse(delivery(body, exact=exact), limits)
    assert isinstance(found, Received), found
    return found


def test_a_named_event() -> None:
    """Its name, what is kept beside it, and the text as it came."""
    body = {"sender_id": "ä 🎟", "event": "user", "timestamp": 1.5, HISTORY_FIELD: 3,
            SEQUENCE_FIELD: 7, "x": [1]}  # fmt: skip
    raw = json.dumps(body, indent=1).encode()
    assert event(raw) == ("ä 🎟", 3, 7, "user", 1.5, raw.decode(), "", "")


@pytest.mark.parametrize("extra", [{}, {HISTORY_FIELD: None}, {HISTORY_FIELD: 0}])
def test_the_first_history(extra: dict[str, Any]) -> None:
    """A history that is not given is 0."""
    assert event({"sender_id": "c", SEQUENCE_FIELD: 0, **extra}).history == 0


@pytest.mark.parametrize("extra", [{}, {SEQUENCE_FIELD: None}])
def test_an_event_without_a_number(extra: dict[str, Any]) -> None:
    """Of another publisher: it is named by where it is, and what is in it."""
    body = {"sender_id": "c", "event": "user", **extra}
    first, other = event(body), event({**body, "text": "x"})
    assert first.sequence is None
    assert first.digest == event(body).digest != other.digest
    here = event(body, exact=True)
    assert (here.origin, first.origin) == ("t/0/7", "queue q")
    assert here.digest != first.digest
    assert here.digest != event({**body, "text": "x"}, exact=True).digest


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"event": 5, "timestamp": "soon"}, (None, None)),
        ({"event": "x" * 300, "timestamp": 10**400}, ("x" * 255, None)),
        ({"event": "a\0b", "timestamp": True}, (None, None)),
        ({"event": "\ud800", "timestamp": 2}, (None, 2.0)),
        ({}, (None, None)),
    ],
)
def test_odd_fields_are_no_reason(fields: dict[str, Any], kept: tuple[Any, Any]) -> None:
    """What is kept beside the event may be nothing; the event is whole."""
    found = event({"sender_id": "c", SEQUENCE_FIELD: 1, **fields})
    assert (found.type_name, found.timestamp) == kept
    assert json.loads(found.data).keys() == {"sender_id", SEQUENCE_FIELD, *fields}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"sender_id": "c", "x": NaN}', "NaN is not valid JSON"),
        (b"[" * 100_000, "not JSON"),
        ([], "not an object: list"),
        ("text", "not an object: str"),
        ({SEQUENCE_FIELD: 1}, "sender_id is missing"),
        ({"sender_id": 5}, "sender_id is missing, or is not text"),
        ({"sender_id": ""}, "sender_id is missing"),
        ({"sender_id": "x" * 256}, "has 256 characters, the database takes 255"),
        ({"sender_id": "a\0b"}, "NUL"),
        ({"sender_id": "\ud800"}, "surrogate"),
        ({"sender_id": "c", SEQUENCE_FIELD: -1}, "sequence is not a whole number"),
        ({"sender_id": "c", SEQUENCE_FIELD: 1.0}, "sequence is not a whole number"),
        ({"sender_id": "c", SEQUENCE_FIELD: True}, "sequence is not a whole number"),
        ({"sender_id": "c", SEQUENCE_FIELD: 2**63}, "sequence is not a whole number"),
        (
            {"sender_id": "c", SEQUENCE_FIELD: 1, HISTORY_FIELD: "1"},
            "history is not a whole number",
        ),
    ],
)
def test_rejects(body: Any, reason: str) -> None:
    """The reason, and the body as it came."""
    message = delivery(body)
    found = parse(message, SERVER)
    assert isinstance(found, Reject)
    assert reason in found.reason
    assert (found.body, found.origin) == (message.body, "queue q")


def test_limits_are_those_of_the_database() -> None:
    """SQLite takes any id; a packet of MySQL is finite."""
    assert (
        len(event({"sender_id": "x" * 999 + "\0", SEQUENCE_FIELD: 0}, Limits()).sender_id) == 1000
    )
    large = parse(delivery({"sender_id": "c" * 100}), Limits(size=50))
    assert isinstance(large, Reject)
    assert "the database takes 50" in large.reason
