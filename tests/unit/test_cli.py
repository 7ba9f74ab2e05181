"""The demo's judge against hand-made records, its traffic, and the words of the command line."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlock import ConfigurationError, Holder, Inspection, Waiting, cli
from ticketlock.cli.locks import describe
from ticketlock.demo.records import BEGIN, END, LOST, Entry, Records
from ticketlock.demo.report import Report
from ticketlock.demo.sender import Delivery
from ticketlock.demo.traffic import Message, generate, read_transcript
from ticketlock.demo.verify import KINDS, Violation, verify


def turn(message: int, number: int, at: float, *events: str, replica: str = "0.0") -> list[Entry]:
    """The entries of a turn; its fence is ten times its ticket number."""
    events = events or (BEGIN, END)
    return [Entry(message, e, number, 10 * number, replica, at + i) for i, e in enumerate(events)]


def kinds(violations: list[Violation]) -> dict[str, int]:
    return dict(Counter(violation.kind for violation in violations))


GOOD = [*turn(0, 1, 1), *turn(1, 2, 3, replica="1.0"), *turn(2, 3, 5)]


def test_good_records_have_no_violation() -> None:
    assert verify("c", [0, 1, 2], GOOD) == []


def test_a_message_without_an_end_is_lost() -> None:
    assert kinds(verify("c", [0, 1, 2, 3], GOOD)) == {"lost": 1}
    assert kinds(verify("c", [0, 1, 2], GOOD[:-1])) == {"lost": 1}
    assert kinds(verify("c", [0], [])) == {"lost": 1}


def test_a_message_handled_again_is_a_duplicate_once_per_repetition() -> None:
    again = [*GOOD, *turn(2, 4, 7), *turn(2, 5, 9)]
    assert kinds(verify("c", [0, 1, 2], again)) == {"duplicated": 2}
    assert kinds(verify("c", [0, 1, 2], again, resent={2})) == {"duplicated": 2}


def test_a_message_begun_again_is_a_duplicate_even_without_an_end() -> None:
    again = [*GOOD, *turn(1, 4, 7, BEGIN)]
    assert kinds(verify("c", [0, 1, 2], again, resent={1})) == {"duplicated": 1}


def test_ends_must_come_in_the_order_of_sending() -> None:
    swapped = [*turn(1, 1, 1), *turn(0, 2, 3), *turn(2, 3, 5)]
    assert kinds(verify("c", [0, 1, 2], swapped)) == {"out_of_order": 1}
    # A message that was sent again takes the place of its new ticket.
    assert verify("c", [0, 1, 2], swapped, resent={0}) == []
    assert kinds(verify("c", [0, 1, 2], swapped, resent={2})) == {"out_of_order": 1}


def test_ends_must_come_in_the_order_of_tickets_even_when_sent_again() -> None:
    entries = [
        *[Entry(1, event, 2, 10, "0.0", 1) for event in (BEGIN, END)],
        *[Entry(0, event, 1, 20, "0.0", 2) for event in (BEGIN, END)],
    ]
    assert kinds(verify("c", [0, 1], entries, resent={0, 1})) == {"out_of_order": 1}


def test_a_begin_inside_a_turn_is_an_overlap() -> None:
    first, second = turn(0, 1, 1), turn(1, 2, 2, replica="1.0")
    inside = [first[0], *second, first[1]]
    found = kinds(verify("c", [0, 1], inside))
    # The first one's end comes after the second's begin, and after the second's end.
    assert found == {"overlaps": 1, "stale_fences": 1, "out_of_order": 1}


def test_a_turn_left_open_by_a_living_replica_is_an_overlap() -> None:
    entries = [*turn(0, 1, 1, BEGIN), *turn(1, 2, 3), *turn(0, 3, 5)]
    assert kinds(verify("c", [0, 1], entries, resent={0})) == {"overlaps": 2}


def test_a_turn_left_open_by_a_killed_replica_is_no_violation() -> None:
    entries = [*turn(0, 1, 1, BEGIN), *turn(1, 2, 3, replica="1.0"), *turn(0, 3, 5, replica="1.0")]
    assert verify("c", [0, 1], entries, resent={0}, deaths={"0.0": 2.0}) == []


def test_a_turn_that_begins_before_the_holder_was_killed_is_an_overlap() -> None:
    entries = [*turn(0, 1, 1, BEGIN), *turn(1, 2, 3, replica="1.0"), *turn(0, 3, 9, replica="1.0")]
    assert kinds(verify("c", [0, 1], entries, resent={0}, deaths={"0.0": 4.0})) == {"overlaps": 1}


def test_a_killed_replica_must_not_write_after_its_successor_began() -> None:
    first, second = turn(0, 1, 1), turn(1, 2, 4, replica="1.0")
    entries = [first[0], *second, first[1]]
    found = kinds(verify("c", [0, 1], entries, resent={0}, deaths={"0.0": 2.0}))
    assert found == {"stale_fences": 1, "out_of_order": 1}


def test_a_turn_that_was_lost_in_time_is_no_violation() -> None:
    entries = [*turn(0, 1, 1, BEGIN, LOST), *turn(0, 2, 3)]
    assert verify("c", [0], entries, resent={0}) == []


def test_a_turn_whose_loss_was_noticed_late_overlapped_but_wrote_nothing_stale() -> None:
    begin, lost = turn(0, 1, 1, BEGIN, LOST)
    entries = [begin, *turn(1, 2, 3, replica="1.0"), lost, *turn(0, 3, 7)]
    assert kinds(verify("c", [0, 1], entries, resent={0})) == {"overlaps": 1}


@pytest.mark.parametrize("fence", [20, 19])
def test_a_fence_that_does_not_grow_is_stale(fence: int) -> None:
    bad = [*GOOD[:4], *[Entry(2, event, 3, fence, "0.0", 9) for event in (BEGIN, END)]]
    found = kinds(verify("c", [0, 1, 2], bad))
    assert found == {"stale_fences": 1 if fence == 20 else 2}


@pytest.mark.parametrize(
    "bad",
    [
        None,
        Entry(2, END, 3, 30, "1.0", 9),
        Entry(2, "shrug", 3, 30, "0.0", 9),
        Entry(77, BEGIN, 4, 40, "0.0", 9),
    ],
    ids=["unreadable", "end without begin", "unknown event", "unknown message"],
)
def test_a_line_that_makes_no_sense_is_damage(bad: Entry | None) -> None:
    found = kinds(verify("c", [0, 1, 2], [*GOOD, bad]))
    assert found.pop("damaged") == 1
    assert found.keys() <= {"duplicated"}


@given(st.randoms(use_true_random=False), st.integers(2, 12))
def test_any_swap_of_two_lines_is_found(chance: random.Random, count: int) -> None:
    entries = [entry for i in range(count) for entry in turn(i, i + 1, 2 * i)]
    assert verify("c", range(count), entries) == []
    a, b = chance.sample(range(len(entries)), 2)
    entries[a], entries[b] = entries[b], entries[a]
    assert verify("c", range(count), entries) != []


@given(st.integers(0, 9))
def test_any_missing_line_is_found(missing: int) -> None:
    entries = [entry for i in range(5) for entry in turn(i, i + 1, 2 * i)]
    del entries[missing]
    assert verify("c", range(5), entries) != []


# -- records and report ---------------------------------------------------------------------------


def test_records_are_read_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    records = Records(tmp_path)
    conversation = "a/b\n../{*}|\N{SNOWMAN}"
    assert records.read(conversation) == []
    records.write(conversation, 1, BEGIN, 5, 50, "0.0")
    assert not records.ended(conversation, 1)
    records.write(conversation, 1, END, 5, 50, "0.0")
    records.write("another", 2, BEGIN, 6, 60, "1.0")
    assert records.ended(conversation, 1)
    assert not records.ended(conversation, 11)
    assert not records.ended("another", 2)
    first, second = records.read(conversation)
    assert first is not None
    assert second is not None
    assert (first.event, second.event) == (BEGIN, END)
    assert (second.message, second.number, second.fence, second.replica) == (1, 5, 50, "0.0")
    assert first.at <= second.at


def test_a_torn_line_is_told_and_hides_nothing(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.write("c", 0, BEGIN, 1, 10, "0.0")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'{"m": 0, "e": "en\n[]\n')
    assert [entry is None for entry in records.read("c")] == [False, True, True]


def test_the_report_measures_waits_handoffs_and_recoveries() -> None:
    sent = [Delivery(Message(i, "c", ""), 1, sent_at=1.0, accepted_at=1.5) for i in range(3)]
    sent[0].sends = 2
    entries = [
        *turn(0, 1, 2.0, BEGIN),
        *turn(1, 2, 5.0, replica="1.0"),  # 2 s after the death at 3.0
        *turn(0, 3, 6.5, replica="1.0"),  # 0.5 s after the end at 6.0
        *turn(2, 4, 8.5, replica="1.0"),  # 1 s after the end at 7.5
    ]
    report = Report(3, 1, 2, seconds=2.0, kills=1)
    report.add("c", sent, entries, {"0.0": 3.0})
    assert report.violations == []
    assert report.waits == [1.0, 4.0, 7.5]
    assert report.handoffs == [0.5, 1.0]
    values = report.as_json()
    assert values["recovery_s"] == 2.0
    assert values["handled"] == 3
    assert values["throughput_per_s"] == 1.5
    assert values["handoff_ms"] == {"p50": 500.0, "p99": 1000.0}
    assert values["resent"] == 1
    assert {"lost", "duplicated", "out_of_order", "overlaps", "stale_fences"} <= values.keys()


def test_without_any_turn_the_report_has_no_times() -> None:
    values = Report(1, 1, 1, seconds=1.0, kills=0).as_json()
    assert values["wait_ms"] == {"p50": None, "p99": None}
    assert values["recovery_s"] is None
    assert all(values[kind] == 0 for kind in KINDS)


# -- traffic --------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 200), st.integers())
def test_generated_traffic_is_complete_and_repeatable(speakers: int, count: int, seed: int) -> None:
    messages = generate(speakers, count, seed)
    assert [message.id for message in messages] == list(range(count))
    assert len({message.conversation for message in messages}) == min(speakers, count)
    assert messages == generate(speakers, count, seed)


def test_a_transcript_is_read_in_file_order(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(
        '{"sender_id": "b|[x]", "text": "one", "timestamp": 5}\n\n'
        '{"sender_id": "a", "text": "", "extra": [], "timestamp": null}\r\n'
    )
    assert read_transcript(file) == [Message(0, "b|[x]", "one"), Message(1, "a", "")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "is not JSON"),
        (b'{"sender_id": "a", "text": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "is n"),  # too deep for one Python, not JSON for another
        (b"[]", "is not a JSON object"),
        (b'{"text": "x"}', "sender_id is missing"),
        (b'{"sender_id": "a"}', "text is missing"),
        (b'{"sender_id": 1, "text": "x"}', "sender_id: 1 is not text"),
        (b'{"sender_id": "", "text": "x"}', "sender_id: a conversation id is non-empty text"),
        (b'{"sender_id": "\\ud800", "text": "x"}', "is not valid Unicode"),
        (b'{"sender_id": "a", "text": null}', "text: None is not text"),
        (b'{"sender_id": "a", "text": "x", "timestamp": "now"}', "timestamp: 'now' is not a"),
        (b'{"sender_id": "a", "text": "x", "timestamp": true}', "timestamp: True is not a"),
        (b'{"sender_id": "a", "text": "' + b"x" * 2_000_000 + b'"}', "is longer than"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named_and_nothing_is_started(
    line: bytes,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ticketlock.cli.demo.run", lambda options: pytest.fail("it was started"))
    file = tmp_path / "chat.jsonl"
    file.write_bytes(b'{"sender_id": "a", "text": "fine"}\n' + line + b"\n")
    assert cli.main(["demo", "--json", "--messages", str(file)]) == cli.EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert f"{file}:2: " in error
    assert problem in error


def test_a_transcript_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.jsonl: No such file"):
        read_transcript(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ConfigurationError, match=r"empty\.jsonl: there is no message"):
        read_transcript(tmp_path / "empty.jsonl")


# -- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["demo", "--replicas", "0"],
        ["demo", "--kill", "0"],
        ["demo", "--count", "many"],
        ["inspect"],
        ["break", "c", "--fence", "-1"],
    ],
)
def test_wrong_words_end_with_bad_input(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == cli.EXIT_BAD_INPUT


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "c", "--redis", "http://here"],
        ["inspect", ""],
        ["break", "c", "--key-prefix", "a b"],
        ["demo", "--json", "--redis", "http://here"],
        ["demo", "--json", "--messages", "chat.jsonl", "--count", "3"],
    ],
)
def test_wrong_settings_end_with_bad_input(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == cli.EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith("ticketlock: ")


@pytest.mark.parametrize("command", [["inspect", "c"], ["break", "c"], ["demo", "--json"]])
def test_a_redis_that_is_not_there_is_told(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--redis", "redis://127.0.0.1:1"]) == cli.EXIT_UNAVAILABLE
    assert "Redis at 127.0.0.1:1: nothing listens there" in capsys.readouterr().err


def test_without_rich_the_error_is_the_command_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert cli.main(["demo"]) == cli.EXIT_BAD_INPUT
    assert 'pip install "ticketlock[cli]"' in capsys.readouterr().err


def test_a_violation_makes_the_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(1, 1, 1, seconds=1.0, kills=0)
    monkeypatch.setattr("ticketlock.cli.demo.run", lambda options: report)
    assert cli.main(["demo", "--json"]) == cli.EXIT_OK
    report.violations.append(Violation("overlaps", "c", 0, "began too early"))
    assert cli.main(["demo", "--json"]) == cli.EXIT_FAILED
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["overlaps"] == 1
    assert cli.main(["demo"]) == cli.EXIT_FAILED
    assert "overlaps: conversation 'c', message 0: began too early" in capsys.readouterr().err


def test_an_inspection_is_told_in_words() -> None:
    holder = Holder(7, 1234, 185.4, 2.5, "alpha", 42, "sms \x1b[2J")
    waiting = (Waiting(8, 1.25, True, "beta", 43, None), Waiting(9, 0.5, False))
    assert describe(Inspection("c", holder, waiting, 5, 12)) == [
        "conversation 'c'",
        "  held by host alpha process 42 ('sms \\x1b[2J') for 3 min 5 s, ticket 7, fence 1234",
        "    its lease has 2.5 s left",
        "  waiting: 5",
        "    host beta process 43 for 1.2 s, ticket 8",
        "    unknown process for 0.5 s, ticket 9, not heard of: will be skipped",
        "    ... and 3 more",
    ]
    assert "nobody holds it" in "".join(describe(Inspection("c", None, (), 0, 0)))
