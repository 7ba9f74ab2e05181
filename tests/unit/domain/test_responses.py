"""Which variation of a response is said, and its variables."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlock import ConfigurationError, Domain

SMALL = [{"type": "slot", "name": "size", "value": "SMALL"}]
VARIATIONS = [
    {"text": "plain"},
    {"text": "slack", "channel": "slack"},
    {"text": "small", "condition": SMALL},
    {"text": "small slack", "condition": SMALL, "channel": "slack"},
]


def domain(*variations: dict[str, Any]) -> Domain:
    return Domain.from_dict({"responses": {"utter_a": [*variations]}})


def text(made: Domain, **options: Any) -> Any:
    said = made.response("utter_a", **options)
    return None if said is None else said["text"]


@pytest.mark.parametrize(
    ("there", "channel", "size", "said"),
    [
        ([0, 1, 2, 3], "slack", "small", "small slack"),
        ([0, 1, 2, 3], "slack", "big", "slack"),
        ([0, 1, 2], "slack", "small", "slack"),
        ([0, 1, 2, 3], "rest", "small", "small"),
        ([0, 1, 2, 3], "rest", None, "plain"),
        ([0, 2], "slack", "small", "small"),
        ([1, 2, 3], "rest", "big", None),
        ([1], "rest", "big", None),
        ([2], None, "Small", "small"),
    ],
)
def test_the_channel_comes_before_conditions(
    there: list[int], channel: str | None, size: str | None, said: str | None
) -> None:
    made = domain(*(VARIATIONS[i] for i in there))
    assert text(made, channel=channel, slots={"size": size}) == said


@pytest.mark.parametrize(
    ("value", "slot", "holds"),
    [
        (True, True, True), (True, "true", False), (1, 1.0, True), (None, None, True),
        (["a"], ["a"], True), ("ß", "SS", True), ("a", None, False),
    ],
)  # fmt: skip
def test_values_of_conditions(value: Any, slot: Any, holds: bool) -> None:
    """Texts without case, all else as it is."""
    made = domain(
        {"text": "yes", "condition": [{"type": "slot", "name": "s", "value": value}]},
        {"text": "no"},
    )
    assert text(made, slots={"s": slot}) == ("yes" if holds else "no")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Hi {name}", "Hi Anna"),
        ("{city} {city}", "Rome Rome"),
        ("{n} {none} {yes}", "3 None True"),
        ("{{name}}", "{name}"),
        ("{{{name}}}", "{Anna}"),
        ('/inform{{"city": "{city}"}}', '/inform{"city": "Rome"}'),
        ('/inform{"city": "Rome"}', '/inform{"city": "Rome"}'),
        ("{unknown} {name}", "{unknown} {name}"),
        ("a } b { c", "a } b { c"),
        ("{a b.c}", "dotted"),
        ("{name.__class__}", "{name.__class__}"),
        ("{braces}", "{name}"),
    ],
)
def test_variables(template: str, said: str) -> None:
    """One that has no value leaves the whole text as it is; values are not searched again."""
    slots = {"name": "slot", "city": "Rome", "n": 3, "none": None, "yes": True, "a b.c": "dotted"}
    variables = {"name": "Anna", "braces": "{name}"}
    assert text(domain({"text": template}), slots=slots, variables=variables) == said


def test_variables_in_what_is_not_text() -> None:
    """In what is shown, at any depth; not in names, and not in metadata."""
    keys = {
        "text": "{a}", "image": "{a}", "attachment": {"{a}": "{a}"}, "custom": {"l": ["{a}", 1]},
        "buttons": [{"title": "{a}", "payload": "/x"}], "quick_replies": [{"title": "{a}"}],
    }  # fmt: skip
    said = domain({**keys, "id": "{a}", "metadata": {"k": "{a}"}}).response(
        "utter_a", slots={"a": "b"}
    )
    assert said == {
        "text": "b", "image": "b", "attachment": {"{a}": "b"}, "custom": {"l": ["b", 1]},
        "buttons": [{"title": "b", "payload": "/x"}], "quick_replies": [{"title": "b"}],
        "id": "{a}", "metadata": {"k": "{a}"},
    }  # fmt: skip


def test_an_unknown_variable_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By its name and the response's, without values; JSON in a payload is none."""
    with caplog.at_level(logging.WARNING, "ticketlock"):
        domain({"text": "{nope} {a}", "image": '{"a": 1}'}).response("utter_a", slots={"a": "x"})
    (record,) = caplog.records
    assert record.getMessage() == (
        "response utter_a: {nope} is neither a slot nor an argument: its text is said as it is"
    )


def test_an_unknown_response() -> None:
    with pytest.raises(ConfigurationError, match=r"'utter_b' is not there; did you mean utter_a\?"):
        domain({"text": "a"}).response("utter_b")


@given(st.text(), st.integers(1, 5))
def test_the_same_draw_the_same_variation(draw: str, many: int) -> None:
    """In each process, and for any message id."""
    made = domain(*({"text": str(i)} for i in range(many)))
    assert text(made, draw=draw) == text(made, draw=draw)


def test_each_variation_is_said_equally_often() -> None:
    made = domain(*({"text": str(i)} for i in range(3)))
    counts = Counter(text(made, draw=f"message {i}") for i in range(3000))
    assert len(counts) == 3
    assert min(counts.values()) > 900
    assert text(made, draw="message 1") == "0"  # of all processes, and of later versions


@given(st.text(alphabet="ab{}\n", max_size=30))
def test_any_template_is_said(template: str) -> None:
    """Braces that do not match are no error."""
    said = text(domain({"text": template}), slots={"a": "X", "b": "Y", "ab": "Z"})
    assert isinstance(said, str)
