"""The demo's judge against hand-made stores and records, and what its report measures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlock.demo.bot import reply
from ticketlock.demo.judge.records import BEGIN, END, LOST, Records, TurnRecord
from ticketlock.demo.judge.stored import read_turns
from ticketlock.demo.judge.turns import KINDS, verify
from ticketlock.demo.report import Report
from ticketlock.demo.sender import SentMessage
from ticketlock.demo.traffic import Message
from ticketlock.events import BotUttered, SlotSet, UserUttered
from ticketlock.events.event import Event


def entries(message: int, number: int, at: float, *kinds: str, by: str = "0.0") -> list[TurnRecord]:
    """What a turn records; its fence is ten times its ticket number."""
    kinds = kinds or (BEGIN, END)
    return [
        TurnRecord(message, kind, number, 10 * number, by, at + i) for i, kind in enumerate(kinds)
    ]


def stored(message: int, number: int, seen: int, by: str = "0.0", **facts: int) -> list[Event]:
    """What the same turn stores, having read `seen` events."""
    values = {"fence": 10 * number, "number": number, "replica": by, "seen": seen, **facts}
    return list(reply(Message(message, "c", f"text {message}"), values))


def judge(
    count: int, events: Sequence[Event], record: Sequence[TurnRecord | None], resent: Any = ()
) -> dict[str, int]:
    """How many violations of each kind there are when `count` messages were sent."""
    sent = [Message(i, "c", f"text {i}") for i in range(count)]
    found = verify("c", sent, events, record, resent=resent)
    return dict(Counter(violation.kind for violation in found))


EVENTS = [*stored(0, 1, 0), *stored(1, 2, 2, "1.0"), *stored(2, 3, 4)]
RECORD = [*entries(0, 1, 1), *entries(1, 2, 3, by="1.0"), *entries(2, 3, 5)]


def test_a_good_conversation_has_no_violation() -> None:
    assert judge(3, EVENTS, RECORD) == {}


def test_a_message_that_is_not_stored_is_lost() -> None:
    assert judge(4, EVENTS, RECORD) == {"lost": 1}
    assert judge(1, [], []) == {"lost": 1}


def test_what_a_turn_had_written_must_still_be_there() -> None:
    gone = [*EVENTS[:4], *stored(2, 4, 4)]
    record = [*RECORD, *entries(2, 4, 7)]
    assert judge(3, gone, record, {2}) == {"lost": 1}


def test_a_message_that_is_stored_again_is_a_duplicate_once_per_repetition() -> None:
    again = [*EVENTS, *stored(2, 4, 6), *stored(2, 5, 8)]
    record = [*RECORD, *entries(2, 4, 7), *entries(2, 5, 9)]
    assert judge(3, again, record) == {"duplicated": 2}
    assert judge(3, again, record, {2}) == {"duplicated": 2}


def test_half_a_turn_is_torn_and_lost_only_without_its_message() -> None:
    assert judge(3, EVENTS[:-1], RECORD) == {"torn": 1}
    assert judge(3, EVENTS[1:], RECORD) == {"torn": 1, "lost": 1}


def test_turns_that_are_mixed_are_torn() -> None:
    mixed = [EVENTS[0], EVENTS[2], EVENTS[1], EVENTS[3], *EVENTS[4:]]
    assert judge(3, mixed, RECORD)["torn"] >= 3


def test_an_answer_of_another_turn_makes_no_pair() -> None:
    assert judge(3, [*EVENTS[:5], stored(1, 3, 4)[1]], RECORD) == {"torn": 2}
    # Of the same message it makes one, but of a turn that nobody has recorded.
    other = [*EVENTS[:5], stored(2, 4, 4)[1]]
    assert judge(3, other, RECORD) == {"damaged": 1, "lost": 1}


def test_messages_must_be_stored_in_the_order_of_sending() -> None:
    swapped = [*stored(1, 1, 0), *stored(0, 2, 2), *stored(2, 3, 4)]
    record = [*entries(1, 1, 1), *entries(0, 2, 3), *entries(2, 3, 5)]
    assert judge(3, swapped, record) == {"out_of_order": 1}
    # A message that was sent again takes the place of its new ticket.
    assert judge(3, swapped, record, {0}) == {}
    assert judge(3, swapped, record, {2}) == {"out_of_order": 1}


def test_messages_must_be_stored_in_the_order_of_tickets_even_when_sent_again() -> None:
    events = [*stored(1, 2, 0, fence=10), *stored(0, 1, 2, fence=20)]
    record = [
        TurnRecord(m, e, n, f, "0.0", 1)
        for m, n, f in ((1, 2, 10), (0, 1, 20))
        for e in (BEGIN, END)
    ]
    assert judge(2, events, record, {0, 1}) == {"out_of_order": 1}


@pytest.mark.parametrize("fence", [20, 19])
def test_a_fence_that_does_not_grow_is_stale(fence: int) -> None:
    events = [*EVENTS[:4], *stored(2, 3, 4, fence=fence)]
    record = [*RECORD[:4], *[TurnRecord(2, e, 3, fence, "0.0", 9) for e in (BEGIN, END)]]
    assert judge(3, events, record) == {"stale_fences": 1}


def test_a_turn_that_had_not_read_all_before_it_overlapped() -> None:
    events = [*stored(0, 1, 0), *stored(1, 2, 0, "1.0")]
    assert judge(2, events, RECORD[:4]) == {"overlaps": 1}


def test_a_begin_inside_a_turn_is_an_overlap_if_both_are_stored() -> None:
    inside = [RECORD[0], *RECORD[2:4], RECORD[1]]
    assert judge(2, EVENTS[:4], inside) == {"overlaps": 1}


@pytest.mark.parametrize("end", [[], [LOST], [END]])
def test_a_turn_that_wrote_nothing_overlaps_with_nothing(end: list[str]) -> None:
    begin, *ends = entries(0, 1, 1, BEGIN, *end)
    record = [begin, *entries(1, 2, 3, by="1.0"), *ends, *entries(0, 3, 7)]
    events = [*stored(1, 2, 0, "1.0"), *stored(0, 3, 2)]
    # Only an end would claim that it was written; then what it wrote is gone.
    assert judge(2, events, record, {0}) == ({"lost": 1} if END in end else {})


def test_an_end_that_a_killed_replica_could_not_record_is_no_violation() -> None:
    assert judge(3, EVENTS, [*RECORD[:1], *RECORD[2:]]) == {}
    assert judge(3, EVENTS, RECORD[:-1]) == {}


def test_what_was_written_without_a_begin_is_damage() -> None:
    assert judge(3, EVENTS, RECORD[:-2]) == {"damaged": 1}


@pytest.mark.parametrize(
    "bad",
    [None, TurnRecord(2, END, 3, 30, "1.0", 9), TurnRecord(2, "shrug", 3, 30, "0.0", 9)],
    ids=["unreadable", "end without begin", "unknown kind"],
)
def test_a_line_of_the_record_that_makes_no_sense_is_damage(bad: TurnRecord | None) -> None:
    found = judge(3, EVENTS, [*RECORD, bad])
    assert found.pop("damaged") == 1
    assert found.keys() <= {"lost"}


def test_events_that_the_bot_cannot_have_written_are_damage() -> None:
    user, bot = stored(2, 3, 4)
    wrong_id = replace(user, message_id="7")  # type: ignore[call-arg]  # a user event
    assert judge(3, [*EVENTS, SlotSet("x")], RECORD) == {"damaged": 1}
    assert judge(3, [*EVENTS[:4], wrong_id, bot], RECORD) == {"damaged": 1, "lost": 1}
    assert judge(3, [*EVENTS, UserUttered("who?")], RECORD) == {"damaged": 1}
    assert judge(2, EVENTS, RECORD) == {"damaged": 1}
    assert judge(3, [*EVENTS, BotUttered("?")], RECORD) == {"torn": 1}
    other = [replace(event, text="other") for event in (user, bot)]  # type: ignore[call-arg]  # both have one
    assert judge(3, [*EVENTS[:4], *other], RECORD) == {"damaged": 1}


def test_turns_are_read_as_they_were_written() -> None:
    turns, halves, found = read_turns(EVENTS, {i: f"text {i}" for i in range(3)})
    assert (halves, found) == (set(), [])
    assert [(t.message, t.place, t.seen, t.number, t.fence, t.replica) for t in turns] == [
        (0, 0, 0, 1, 10, "0.0"),
        (1, 2, 2, 2, 20, "1.0"),
        (2, 4, 4, 3, 30, "0.0"),
    ]


@given(st.randoms(use_true_random=False), st.integers(2, 12))
def test_any_swap_of_two_events_or_two_lines_is_found(chance: random.Random, count: int) -> None:
    events = [event for i in range(count) for event in stored(i, i + 1, 2 * i)]
    record = [entry for i in range(count) for entry in entries(i, i + 1, 2 * i)]
    assert judge(count, events, record) == {}
    a, b = chance.sample(range(2 * count), 2)
    record[a], record[b] = record[b], record[a]
    assert judge(count, events, record) != {}
    record[a], record[b] = record[b], record[a]
    events[a], events[b] = events[b], events[a]
    assert judge(count, events, record) != {}


@given(st.integers(0, 9))
def test_any_missing_event_is_found(missing: int) -> None:
    events = [event for i in range(5) for event in stored(i, i + 1, 2 * i)]
    del events[missing]
    record = [entry for i in range(5) for entry in entries(i, i + 1, 2 * i)]
    assert judge(5, events, record) != {}


# -- records and report ---------------------------------------------------------------------------


def test_records_are_read_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    records = Records(tmp_path)
    conversation = "a/b\n../{*}|\N{SNOWMAN}"
    assert records.read(conversation) == []
    records.write(conversation, 1, BEGIN, 5, 50, "0.0")
    records.write(conversation, 1, END, 5, 50, "0.0")
    records.write("another", 2, BEGIN, 6, 60, "1.0")
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
    sent = [
        SentMessage(Message(i, "c", f"text {i}"), 1, sent_at=1.0, accepted_at=1.5) for i in range(4)
    ]
    sent[0].sends = 2
    record = [
        *entries(0, 1, 2.0, BEGIN),
        *entries(1, 2, 5.0, by="1.0"),  # 2 s after the death at 3.0
        *entries(0, 3, 6.5, by="1.0"),  # 0.5 s after the end at 6.0
        *entries(2, 4, 8.5, by="1.0"),  # 1 s after the end at 7.5
        *entries(3, 5, 12.0, by="1.0"),  # another replica has died since the end at 9.5
    ]
    events = [
        *stored(1, 2, 0, "1.0"),
        *stored(0, 3, 2, "1.0"),
        *stored(2, 4, 4, "1.0"),
        *stored(3, 5, 6, "1.0"),
    ]
    report = Report(4, 1, 2, seconds=2.0, kills=2, tracker_store="sql (sqlite)", lock_store="redis")
    report.add("c", sent, events, record, {"0.0": 3.0, "2.0": 10.0})
    assert report.violations == []
    assert report.waits == [1.0, 4.0, 7.5, 11.0]
    assert report.handoffs == [0.5, 1.0]
    values = report.as_json()
    assert values["recovery_s"] == 2.0
    assert values["handled"] == 4
    assert values["throughput_per_s"] == 2.0
    assert values["handoff_ms"] == {"p50": 500.0, "p99": 1000.0}
    assert values["resent"] == 1
    assert (values["tracker_store"], values["lock_store"]) == ("sql (sqlite)", "redis")
    assert KINDS.keys() <= values.keys()


def test_half_a_turn_is_not_handled() -> None:
    report = Report(2, 1, 1, seconds=1.0, kills=0)
    sent = [SentMessage(Message(i, "c", f"text {i}"), 1, sent_at=1.0) for i in range(2)]
    report.add("c", sent, EVENTS[:3], RECORD[:4], {})
    assert (report.handled, report.counts()["torn"]) == (1, 1)


def test_without_any_turn_the_report_has_no_times() -> None:
    values = Report(1, 1, 1, seconds=1.0, kills=0).as_json()
    assert values["wait_ms"] == {"p50": None, "p99": None}
    assert values["recovery_s"] is None
    assert all(values[kind] == 0 for kind in KINDS)
