"""What a body may hold: values, depth, length of a text; counted before it is parsed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import client

from ticketlock.server import Settings
from ticketlock.server.errors import BadRequest, BodiesOverloaded, TooMuch
from ticketlock.server.intake import Budget, Reservation, signed_by
from ticketlock.server.json_limits import parse

DEFAULTS = Settings()
MEGABYTE = 1024 * 1024


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[" + b"[]," * 10_001 + b"1]", "more than 20000 values"),
        (b"[" + b",".join([b"[]"] * (MEGABYTE // 3)) + b"]", "more than 20000 values"),
        (b"[" + b",".join([b'""'] * (MEGABYTE // 3)) + b"]", "more than 20000 values"),
        (b'["' + b'","'.join([b"\\\\"] * 20_001) + b'"]', "more than 20000 values"),
        (b'{"a":1' + b',"a":1' * 20_000 + b"}", "more than 20000 values"),
        (nested(65), "deeper than 64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64 levels"),
        (json.dumps({"message": "x" * 65_537}).encode(), "message is a text of more than 65536"),
        (json.dumps({"a": [1, {"b": "é" * 65_537}]}).encode(), r"a\[1\]\.b is a text of more"),
        (json.dumps({"x" * 65_537: 1}).encode(), r"\(a key\) is a text of more"),
        (json.dumps("x" * 65_537).encode(), "the body is a text of more"),
        (json.dumps('"' * 65_537).encode(), "the body is a text of more"),
        (json.dumps({"a": "\\" * 60_000, "b": "x" * 60_000 + '"' * 6_000}).encode(), "b is a text of"),
        (b'"a"' * 100_000, "more than 20000 values"),
    ],
)  # fmt: skip
def test_too_much(body: bytes, says: str) -> None:
    """Each default bound is hit at its default, and the error names what is too much."""
    assert len(body) <= DEFAULTS.max_body
    with pytest.raises(TooMuch, match=says):
        parse(body, DEFAULTS)


def test_just_enough() -> None:
    """At the bound it passes; structure within texts does not count."""
    assert len(parse(b"[" + b",".join([b"1"] * 19_999) + b"]", DEFAULTS)) == 19_999
    assert parse(nested(64), DEFAULTS)
    assert len(parse(json.dumps("é" * 65_536, ensure_ascii=False).encode(), DEFAULTS)) == 65_536
    assert len(parse(json.dumps('"\n' * 32_768).encode(), DEFAULTS)) == 65_536
    text = '[{,"\\' * 9_000
    assert parse(json.dumps({"a": text}).encode(), DEFAULTS) == {"a": text}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=30,
)


def count(value: Any) -> int:
    """Values, an empty list or object counted as if it had one."""
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)):
        return 1
    return 1 + (sum(map(count, items)) or 1)


def depth(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@given(VALUES, st.integers(10, 40), st.integers(2, 6))
@settings(max_examples=300, deadline=None)
def test_counting_is_exact(value: Any, values: int, levels: int) -> None:
    """What is counted without parsing is what is in it."""
    limits = Settings(max_values=values, max_depth=levels)
    body = json.dumps(value).encode()
    if count(value) <= values and depth(value) <= levels:
        assert parse(body, limits) == value
    else:
        with pytest.raises(TooMuch):
            parse(body, limits)


@given(st.binary(max_size=60) | st.text('[]{},:"\\u1 ', max_size=40).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_what_is_no_json(body: bytes) -> None:
    """Whatever the bytes are, there is a value or one of our errors."""
    try:
        parse(body, Settings(max_values=10, max_depth=3))
    except (BadRequest, TooMuch):
        return
    json.loads(body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/webhooks/rest/webhook", {"message": "x" * 65_537}),
        ("POST", "/webhooks/rest/webhook", {"message": "x", "metadata": {"a": [[]] * 20_000}}),
        (
            "POST",
            "/webhooks/rest/webhook",
            {"message": "x", "metadata": dict.fromkeys(range(9), "x" * 9000)},
        ),
        ("POST", "/conversations/a/messages", {"sender": "user", "text": "x" * 65_537}),
        (
            "POST",
            "/conversations/a/messages",
            {"sender": "user", "text": "x", "parse_data": {"a": ["x" * 9_000] * 9}},
        ),
        (
            "POST",
            "/conversations/a/trigger_intent",
            {"name": "x", "entities": [{"a": "x" * 9_000}] * 9},
        ),
        ("POST", "/conversations/a/trigger_intent", {"name": "x" * 65_537}),
        ("POST", "/conversations/a/tracker/events", [{"event": "x"}] * 10_000),
        ("POST", "/conversations/a/tracker/events", [{"event": "restart"}] * 1_001),
        ("PUT", "/conversations/a/tracker/events", [{"event": "restart"}] * 1_001),
        (
            "POST",
            "/conversations/a/tracker/events",
            {"event": "slot", "name": "a", "value": ["x" * 60_000] * 5},
        ),
        ("PUT", "/conversations/a/tracker/events", [{"event": "user", "text": "x" * 65_537}]),
    ],
)
async def test_every_endpoint_has_the_limits(method: str, path: str, body: Any) -> None:
    """413 in the documented body; nothing is stored, and the connection stays."""
    async with client() as http:
        answer = await http.request(method, path, json=body)
        assert (answer.status_code, answer.json()["reason"]) == (413, "ContentTooLarge")
        assert "connection" not in answer.headers
        assert (await http.get("/conversations/a/story")).status_code == 404


def test_a_budget_is_given_back() -> None:
    """Ordinary bodies cost nothing; what is over is taken, refused, and given back."""
    known, signed, door = Budget(100_000), Budget(1), asyncio.Lock()
    small = [Reservation(known, signed, door) for _ in range(100)]
    for one in small:
        one.grow(16 * 1024)
    assert known.taken == 0
    large = Reservation(known, signed, door)
    large.grow(16 * 1024 + 60_000)
    large.grow(40_000)
    assert known.taken == 100_000
    other = Reservation(known, signed, door)
    with pytest.raises(BodiesOverloaded) as caught:
        other.grow(16 * 1024 + 1)
    assert (caught.value.status, caught.value.retry_after) == (503, 1)
    large.release()
    other.release()
    assert (known.taken, signed.taken) == (0, 0)


def test_signatures() -> None:
    """The right one, and near misses."""
    # As `printf body | openssl dgst -sha256 -hmac key` has it.
    right = "sha256=515aae133b435d4000956731f68ae5cf5eb85d4f0dc6a546d2bfcd3595ec1ae1"
    assert signed_by("key", b"body", right)
    for wrong in ("", right[:-1], right[7:], right.upper(), right + "0", "sha256=é"):
        assert not signed_by("key", b"body", wrong)
    assert not signed_by("kez", b"body", right)
    assert not signed_by("key", b"bodz", right)
