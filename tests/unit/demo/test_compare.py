"""The demo's verdict in a sentence, and its picture of how turns ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ticketlock import cli
from ticketlock.cli.demo import takes_the_time
from ticketlock.demo import Options
from ticketlock.demo.judge.events import EVENT_KINDS, EventCounts
from ticketlock.demo.judge.records import BEGIN, END, LOST, TurnRecord
from ticketlock.demo.judge.turns import KINDS, Violation
from ticketlock.demo.picture import svg
from ticketlock.demo.report import Report
from ticketlock.demo.screen import print_comparison, timeline
from ticketlock.demo.timeline import CONVERSATIONS, TURNS, Span, compare, spans
from ticketlock.demo.verdict import _WORDS, compared, verdict

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>&\x1b[2J"


def report(*violations: Violation, kills: int = 0) -> Report:
    return Report(8, 2, 3, seconds=1.0, kills=kills, violations=list(violations))


@pytest.mark.parametrize(
    ("store", "kills", "said"),
    [("sql (sqlite)", 0, True), ("sql (sqlite)", 1, False), ("redis", 0, False)],
)
def test_the_store_that_takes_the_time(store: str, kills: int, said: bool) -> None:
    """SQLite does; not where histories are in Redis, or replicas were killed."""
    assert takes_the_time(replace(report(kills=kills), tracker_store=store)) is said


def test_the_verdict_is_one_sentence() -> None:
    kept = "all 8 messages of 2 conversations were handled once, whole, in order and one at a time"
    assert verdict(report()) == f"Verdict: {kept}."
    assert verdict(report(kills=1)) == f"Verdict: {kept}, although a replica was killed."
    assert verdict(report(kills=3)).endswith(", although 3 replicas were killed.")
    heard = report()
    heard.events = EventCounts("kafka")
    assert verdict(heard) == f"Verdict: {kept}, and every event arrived."
    heard.events.unread = "unknown"
    assert verdict(heard) == f"Verdict: {kept}."


def test_the_verdict_counts_messages() -> None:
    """One that overlaps two others is one; what is about no message counts for itself."""
    overlap = Violation("overlaps", "c", 1, "first")
    found = (overlap, replace(overlap, detail="second"), replace(overlap, message=2))
    assert verdict(report(*found)) == "Verdict: PROMISES WERE BROKEN: 2 turns overlapped."
    late, torn = Violation("out_of_order", "c", 1, ""), Violation("torn", "c", None, "")
    assert verdict(report(*found, late, torn, torn)) == (
        "Verdict: PROMISES WERE BROKEN: 2 turns were written in part, "
        "1 messages were handled out of order and 2 turns overlapped."
    )
    without = "1 messages were handled out of order and 2 turns overlapped, of 8 messages."
    assert verdict(report(*found, late, torn), unlocked=True) == (
        f"Verdict: without the lock {without}"
    )
    said = compared(report(), report(*found, late, torn))
    assert said.startswith("Verdict: with the lock all 8 messages of 2 ")
    assert said.endswith(f"; without it {without}")
    assert "nothing went wrong this time" in compared(report(), report())
    assert "PROMISES WERE BROKEN" in compared(report(torn), report(torn))


def test_every_kind_of_violation_has_words() -> None:
    assert _WORDS.keys() == {*KINDS, *EVENT_KINDS}


def entries(*turns: tuple[int, float, float]) -> list[TurnRecord]:
    found = []
    for message, begin, end in turns:
        found += [
            TurnRecord(message, BEGIN, 1, 1, "0.0", begin),
            TurnRecord(message, END, 1, 1, "0.0", end),
        ]
    return sorted(found, key=lambda entry: entry.at)


def test_turns_are_read_from_the_record() -> None:
    record = entries((2, 3.0, 4.0), (1, 1.0, 2.0))
    lost, killed = TurnRecord(3, LOST, 1, 1, "0.0", 6.0), TurnRecord(4, BEGIN, 1, 1, "0.0", 7.0)
    record += [replace(lost, event=BEGIN, at=5.0), lost, killed]
    assert spans(record) == [Span(1, 1.0, 2.0), Span(2, 3.0, 4.0), Span(3, 5.0, 6.0)]


def test_what_overlaps_is_marked_and_gets_a_lane() -> None:
    """All that runs while another one does, the first and the last included."""
    locked = spans(entries((7, 0.0, 1.0), (8, 1.0, 2.0), (9, 2.0, 3.0)))
    unlocked = spans(entries((8, 10.0, 14.0), (7, 11.0, 12.0), (9, 12.5, 13.0)))
    (one,) = compare({"c": locked}, {"c": unlocked})
    assert [(s.label, s.lane, s.overlaps) for s in one.locked.spans] == [
        (1, 0, False), (2, 0, False), (3, 0, False),
    ]  # fmt: skip
    assert [(s.label, s.lane, s.overlaps) for s in one.unlocked.spans] == [
        (2, 0, True), (1, 1, True), (3, 1, True),
    ]  # fmt: skip
    assert (one.unlocked.seconds, one.unlocked.lanes, one.locked.lanes) == (4.0, 2, 1)


def test_the_worst_conversations_are_shown_where_they_are_worst() -> None:
    def turns(overlapping: int) -> list[Span]:
        apart = [(i, 10.0 * i, 10.0 * i + 1) for i in range(20)]
        return spans(entries(*apart, *[(100 + i, 500.0, 501.0) for i in range(overlapping)]))

    unlocked = {f"c{n}": turns(n) for n in range(6)}
    found = compare({}, unlocked)
    assert [one.conversation for one in found] == ["c5", "c4", "c3"][:CONVERSATIONS]
    assert len(found[0].unlocked.spans) == TURNS
    assert sum(span.overlaps for span in found[0].unlocked.spans) == 5
    assert found[0].locked.spans == ()


@pytest.fixture
def comparison() -> object:
    locked = spans(entries((1, 0.0, 1.0), (2, 1.5, 2.0)))
    unlocked = spans(entries((2, 0.0, 1.0), (1, 0.5, 2.0)))
    (one,) = compare({HOSTILE: locked}, {HOSTILE: unlocked})
    return one


def test_the_picture_is_an_svg(comparison: object) -> None:
    document = ElementTree.fromstring(svg([comparison], "Verdict: it <works>."))  # type: ignore[list-item]
    assert document.tag == f"{SVG}svg"
    assert document.findtext(f"{SVG}title") == "Verdict: it <works>."
    texts = [element.text for element in document.iter(f"{SVG}text")]
    assert "'<script>&\\x1b[2J'" in texts
    colors = [element.get("fill") for element in document.iter(f"{SVG}rect")]
    assert (colors.count("#d0342c"), colors.count("#2a7d4f")) == (3, 3)  # one each in the legend
    assert document.find(f"{SVG}script") is None


def test_the_timeline_is_told_without_colours(comparison: object) -> None:
    lines = [line.plain for line in timeline(comparison)]  # type: ignore[arg-type]
    assert lines[0] == f"conversation {HOSTILE!r}"
    assert all(len(line) <= 80 for line in lines)
    locked, first, second = lines[1:4]
    assert locked.index("1\u2588") < locked.index("2\u2588")
    assert "\u2592" not in locked
    assert "2\u2592" in first
    assert "1\u2592" in second
    red = [span.style for line in timeline(comparison)[2:4] for span in line.spans]  # type: ignore[arg-type]
    assert red.count("red") == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--picture", "x.svg"],
        ["--picture", "x.png", "--compare"],
        ["--picture", "not/there.svg", "--compare"],
        ["--compare", "--unlocked"],
        ["--compare", "--keep"],
    ],
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", *words]) == cli.EXIT_BAD_INPUT
    assert words[0] in capsys.readouterr().err


def test_both_acts_get_the_same_messages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The status is that of the act with the lock; a first run mentions the comparison."""
    acts: list[Options] = []

    def run(options: Options) -> Report:
        acts.append(options)
        broken = [Violation("overlaps", "demo-1:c", 1, "")] if options.unlocked else []
        made = report(*broken)
        turns = spans(entries((1, 0.0, 1.0), (2, 0.5 if broken else 1.0, 2.0)))
        made.turns = {f"demo-{len(acts)}:c": turns}
        return made

    monkeypatch.setattr("ticketlock.cli.demo.run", run)
    picture = tmp_path / "compare.svg"
    assert cli.main(["demo", "--compare", "--events", "--picture", str(picture)]) == cli.EXIT_OK
    assert [(act.unlocked, act.events) for act in acts] == [(False, True), (True, False)]
    assert acts[0].messages == acts[1].messages
    out = capsys.readouterr().out
    for text in ("with the lock", "without", "no lock", "conversation 'c'", "Verdict: with"):
        assert text in out
    assert "1 turns overlapped" in picture.read_text()
    assert cli.main(["demo"]) == cli.EXIT_OK
    assert "ticketlock demo --compare" in capsys.readouterr().out
    picture.unlink()
    picture.mkdir()  # what cannot be written
    assert cli.main(["demo", "--compare", "--picture", str(picture)]) == cli.EXIT_BAD_INPUT
    assert "--picture" in capsys.readouterr().err


def test_the_comparison_explains_its_signs(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(report(), report(), [], "Verdict: none.")
    *_, legend, said = capsys.readouterr().out.splitlines()
    assert legend.startswith("A number begins a turn: the order of sending.")
    assert said == "Verdict: none."
