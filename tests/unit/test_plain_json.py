"""What JSON has not becomes text that says the same; what it has stays as it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from ticketlock.errors import InvalidEvent
from ticketlock.events.codec import encode_events
from ticketlock.events.event import Event
from ticketlock.plain_json import MAX_DEPTH, copied, load, load_events, plain


def nested(levels: int, inner: Any = 1) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1.5, 2**70, "", "ü🙂\0\\ud800", {"NaN": "Infinity"}, {"": [{}, []]},
        "]" * 300, ["[{\"" * 300], [[]] * 300, {"a": "\\"}, nested(MAX_DEPTH),
    ],
    ids=lambda value: f"{value!r:.30}",
)  # fmt: skip
def test_plain_values_stay(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert load(text) == value
        assert load_events([text, "{}", text]) == [value, {}, value]
    assert plain(value) == value
    assert copied(value) == value


@pytest.mark.parametrize(
    "texts", [['{"a":1', '"b":2}'], ["1", "2],[3"], ["{}},{}"], ["[", "]"], [""]]
)
def test_a_text_is_json_by_itself(texts: list[str]) -> None:
    """Not only beside the others that are read with it."""
    with pytest.raises(ValueError, match="line 1"):
        load_events(texts)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 961, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_depth(levels: int, brackets: str) -> None:
    """What is too deep is there, as text, whatever the depth."""
    text = brackets[:-1] * levels + "5" + brackets[-1] * levels
    found, depth = load(text), 0
    while not isinstance(found, str):
        found, depth = (found["a"] if isinstance(found, dict) else found[0]), depth + 1
    assert depth == MAX_DEPTH
    assert found == brackets[:-1] * (levels - depth) + "5" + brackets[-1] * (levels - depth)


def test_values_of_drivers() -> None:
    """Numbers keep their digits, bytes and half characters their content."""
    assert plain([Decimal("1.10"), Decimal(5), Decimal("NaN")]) == [1.1, 5, "NaN"]
    assert plain({5: {1}, "b": b"\xff"}) == {"5": [1], "b": "/w=="}
    assert plain("\ud83d") == "\\ud83d"
    deep: Any = {}
    for _ in range(3000):
        deep = {"a": deep}
    json.dumps(plain(deep))


@pytest.mark.parametrize("levels", [MAX_DEPTH - 1, MAX_DEPTH, 900, 50_000])
def test_events_are_refused_by_depth(levels: int) -> None:
    """The same depth for all stores and Pythons, in one short line."""
    wire = {"event": "slot", "name": "s", "value": nested(levels)}
    if levels < MAX_DEPTH:
        encode_events([Event.from_dict(wire).as_dict()])
        return
    for attempt in (lambda: encode_events([wire]), lambda: Event.from_dict(wire)):
        with pytest.raises(InvalidEvent, match="nested too deeply") as error:
            attempt()
        assert len(str(error.value)) < 300
    with pytest.raises(InvalidEvent, match="a mapping such as") as error:
        Event.from_dict({"event": nested(levels)})
    assert len(str(error.value)) < 300
