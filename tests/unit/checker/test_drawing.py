"""Timelines: the part of a history that shows a violation, drawn."""

from __future__ import annotations

import math
import re
import struct
from random import Random
from xml.etree import ElementTree

from faults.random_histories import Small
from hypothesis import given, settings
from hypothesis import strategies as st
from resvg_py import svg_to_bytes

from ticketlock.checker import Fault, History, Operation, check, picture, png, timeline
from ticketlock.checker.drawing import MOST
from ticketlock.checker.shrinking import shrunk

SVG = "{http://www.w3.org/2000/svg}"


def broken() -> History:
    """Two processes hold at once, among a hundred turns that are well, and other conversations."""
    operations = []
    for place in range(100):
        for conversation in ("<anna>\x1b", "ben"):
            who = f"w/{place % 5}"
            operations += [
                Operation("acquire", who, conversation, place, place + 0.1, "ok", place + 0.05),
                Operation("write", who, conversation, place + 0.2, place + 0.3, "ok"),
                Operation("release", who, conversation, place + 0.4, place + 0.5, "ok"),
            ]
    thief = [
        Operation("acquire", "<thief>", "<anna>\x1b", 50.1, 50.15, "ok"),
        Operation("release", "<thief>", "<anna>\x1b", 50.2, 50.3, "ok"),
    ]
    faults = [
        Fault("restart", 50.1, 50.2),
        Fault("stop", 3, 4, "w"),
        Fault("stop", 50.1, 50.2, "w"),
    ]
    return History([*operations, *thief], faults)


def test_a_violation_is_drawn_with_what_is_around_it() -> None:
    history = broken()
    verdict = check(history)
    assert [one.kind for one in verdict.violations] == ["overlap"]
    part = shrunk(history, verdict.violations[0])
    assert {one.conversation for one in part.operations} == {"<anna>\x1b"}
    assert len(part.operations) == 5
    assert len(part.faults) == 2
    page = timeline(history, verdict.violations)
    assert "\x1b" not in page
    assert "<thief>" not in page
    assert "overlap: conversation" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    (picture,) = pictures(page)
    texts = ["".join(one.itertext()) for one in picture.iter(f"{SVG}text")]
    assert {"<thief>", "w/0", "restart"} <= set(texts)
    violation = verdict.violations[0]
    scale = [float(text[:-2]) for text in texts if re.fullmatch(r"[\d.]+ s", text)]
    assert len(scale) == 6
    assert scale == sorted(scale)
    assert scale[0] < violation.since < violation.until < scale[-1], "the clock of the sentence"
    red = [one for one in picture.iter(f"{SVG}rect") if one.get("stroke") == "#d0342c"]
    assert len(red) == 2


def pictures(page: str) -> list[ElementTree.Element]:
    body = page[page.index("<h2>") : page.index("</body>")] if "<h2>" in page else ""
    return list(ElementTree.fromstring(f"<all>{body}</all>").iter(f"{SVG}svg"))


@given(st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_what_is_kept_shows_the_violation(chance: Random) -> None:
    """And whatever it is, there is a picture of it."""
    history = Small(chance).make()
    violations = check(history, wait_bound=20).violations
    assert len(pictures(timeline(history, violations))) == min(MOST, len(violations))
    turns = [one for one in history.operations if one.kind in ("acquire", "write")]
    if len({one.fence is None for one in turns if one.outcome == "ok"}) > 1:
        return  # a part of it may have fences throughout, and then is judged by them
    for violation in violations:
        if math.isinf(violation.operation.completed):
            continue  # how long it lasted is not in the part
        part = check(shrunk(history, violation), wait_bound=20)
        found = [(one.kind, one.operation) for one in (*part.violations, *part.forgotten)]
        assert (violation.kind, violation.operation) in found


def test_a_page_without_violations() -> None:
    assert pictures(timeline(broken(), [])) == []


def test_one_violation_is_a_picture_of_its_own() -> None:
    """It has its sentence with it, and becomes a PNG of the same size."""
    history = broken()
    (violation,) = check(history).violations
    document = picture(history, violation)
    root = ElementTree.fromstring(document)
    texts = ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
    assert {"<thief>", "w/0"} <= set(texts)
    assert any(text.startswith("overlap: conversation") for text in texts)
    drawn = png(history, violation)
    without = re.sub("<text.*?</text>", "", document, flags=re.DOTALL)
    assert drawn != svg_to_bytes(svg_string=without), "a font was found"
    assert drawn.startswith(b"\x89PNG\r\n")
    size = struct.unpack(">II", drawn[16:24])
    assert size == (int(root.get("width") or 0), int(root.get("height") or 0))
