"""What replicas tell of themselves, sampled and merged."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from ticketlock import Conversations
from ticketlock.server import create_app
from ticketlock.server.operator import replicas
from ticketlock.server.operator.activity import age
from ticketlock.server.operator.meter import SAMPLES, STEP, Meter, merged, percentile
from ticketlock.server.operator.replicas import Snapshot, parse_snapshots
from ticketlock.server.operator.report import (
    ALIVE,
    MAX_OLDEST,
    ROWS_BYTES,
    VERSION,
    pack_rows,
    parse_rows,
)
from ticketlock.server.operator.view import View


def told(name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a process tells, in the form of version 0.2.0."""
    counters = {"handled": 1, "duplicates": 2, "rejected": 3, "errors": 4}
    own = {"gone": False, "draining": False, "held": 1, "waiting": 2, "conversations": len(rows)}
    return {**own, "name": name, "rows": list(rows), "counters": counters, "samples": [], **more}


#: What a process of that version does not tell.
ADDED: dict[str, Any] = {
    "spread": [], "address": "", "version": "", "uptime": None, "stores": {}, "reasons": {},
    "failed": [], "errors": [], "bot": "", "tracker": "",
}  # fmt: skip


def merge(heard: dict[str, tuple[float, dict[str, Any]]], **rows: Any) -> dict[str, Any]:
    """The page's object of what processes told; `rows`: of which process what one by one."""
    each = [
        Snapshot(since, {**ADDED, **summary}, since, rows.get(summary["name"]))
        for since, summary in heard.values()
    ]
    view = View(each)
    return {**view.whole, "conversations": sorted(view.rows, key=age, reverse=True)}


def row(fence: int | None, waiting: int = 0, wait: float = 0.0, name: str = "c") -> dict[str, Any]:
    holder = {"label": None, "number": 1, "fence": fence, "held_for": 5.0, "lifetime": None}
    holder = holder if fence else None
    return {"id": name, "holder": holder, "waiting": waiting, "longest_wait": wait}


def test_a_holder_and_those_who_wait_elsewhere_are_one_row() -> None:
    """Ages go on after they were told; queues add up."""
    heard = {"1": (1.5, told("a", row(7, 1, 2.0))), "2": (0.5, told("b", row(None, 3, 4.0)))}
    (found,) = merge(heard)["conversations"]
    assert found["holder"]["process"] == "a"
    assert (found["holder"]["held_for"], found["waiting"], found["longest_wait"]) == (6.5, 4, 4.5)


def test_of_two_holders_the_later_turn_counts() -> None:
    for heard in ([row(7), row(9)], [row(9), row(7)]):
        (found,) = merge({str(i): (0.0, told(str(i), r)) for i, r in enumerate(heard)})[
            "conversations"
        ]
        assert found["holder"]["fence"] == 9


def test_the_dead_and_the_gone_stay_to_be_seen_and_count_no_more() -> None:
    samples = [[4, 1, 250]]
    heard = {
        "1": (0.0, told("a")),
        "2": (ALIVE, told("dead", row(7), samples=samples)),
        "3": (3.0, told("gone", row(8), gone=True)),
    }
    found = merge(heard)
    names = [(p["name"], p["here"], p["ended"]) for p in found["processes"]]
    assert names == [("a", True, False), ("gone", False, True), ("dead", False, False)]
    assert found["processes"][2]["counters"]["handled"] == 1
    assert found["conversations"] == []
    assert found["counters"] == {"handled": 1, "duplicates": 2, "rejected": 3, "errors": 4}
    totals = {"held": 1, "waiting": 2, "conversations": 0, "unlisted": 0, "slow": 0, "stuck": 0}
    assert found["totals"] == totals
    assert found["history"]["turns"][0] == 4 / STEP


def test_the_longest_come_first() -> None:
    rows = [row(7, name="held 5 s"), row(None, 1, 9.0, "waits 9 s"), row(None, 1, 1.0, "waits 1 s")]
    found = merge({"1": (0.0, told("a", *rows))})["conversations"]
    assert [r["id"] for r in found] == ["waits 9 s", "held 5 s", "waits 1 s"]


def test_no_conversation_is_hidden_silently() -> None:
    """Two processes with 90 each, of which each names 50: the other 80 are told to be there."""
    ninety = {
        name: [row(i + 1, name=f"{name} {i}") for i in range(90)] for name in ("one", "other")
    }
    heard = {
        name: (0.0, told(name, *rows[:MAX_OLDEST], conversations=90))
        for name, rows in ninety.items()
    }
    found = merge(heard)
    assert (len(found["conversations"]), found["totals"]["unlisted"]) == (100, 80)
    assert found["totals"]["conversations"] == 180
    found = merge(heard, one=ninety["one"])
    assert (len(found["conversations"]), found["totals"]["unlisted"]) == (140, 40)
    found = merge(heard, **ninety)
    assert (len(found["conversations"]), found["totals"]["unlisted"]) == (180, 0)


@pytest.mark.parametrize(
    ("held_for", "lifetime", "state"),
    [(5, 60, "held"), (10, 60, "slow"), (30, 60, "stuck"), (30, None, "stuck"), (99, 600, "held"),
     (100, 600, "slow"), (1, 1.5, "stuck")],
)  # fmt: skip
def test_slow_and_stuck_are_parts_of_the_lifetime(
    held_for: float, lifetime: float | None, state: str
) -> None:
    one = row(7)
    one["holder"] |= {"held_for": held_for, "lifetime": lifetime}
    found = merge({"1": (0.0, told("a", one))})
    assert found["conversations"][0]["state"] == state
    assert found["totals"]["stuck"] == (state == "stuck")


def samples(*each: list[int], **more: Any) -> dict[str, Any]:
    return {"samples": list(each), "spread": [], "failed": [], **more}


def test_samples_are_laid_side_by_side_by_age() -> None:
    one = samples([2, 1, 100], [4, 2, 300], spread=[[1, 2, 3], [4, 5, 6]], failed=[{}, {"Busy": 2}])
    other = samples([6, 3, 200], spread=[[9, 9, 9]], failed=[{"Busy": 1, "LockLost": 1}])
    found = merged([(0.1, one), (STEP + 0.1, other)])
    assert found["turns"] == [(2 + 6) / STEP, 4 / STEP]
    assert found["waiting"] == [4, 2]
    assert found["wait"] == [0.2, 0.3]
    assert found["wait_p50"] == [0.009, 0.004]
    assert (found["turn_p50"], found["turn_p99"]) == ([0.009, 0.005], [0.009, 0.006])
    assert found["failed"] == {"Busy": [1, 2], "LockLost": [1, 0]}


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2 * STEP * SAMPLES),
            # Few different ones, of all lengths: drawing each sample takes all the time.
            st.builds(
                lambda some, times: (some * times)[:SAMPLES],
                st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=5),
                st.integers(1, SAMPLES // 4),
            ),
        ),
        max_size=6,
    )
)
def test_any_histories_make_charts(histories: list[Any]) -> None:
    """Of equal lengths, with nothing lost that is recent enough."""
    found = merged([(age, samples(*each, spread=each)) for age, each in histories])
    keys = ("turns", "waiting", "wait", "wait_p50", "turn_p50", "turn_p99")
    lengths = {len(found[key]) for key in keys}
    assert len(lengths) == 1
    assert lengths.pop() <= SAMPLES
    recent = [s for age, samples in histories if age < STEP for s in samples]
    assert sum(turns for turns in found["turns"] if turns) * STEP >= sum(s[0] for s in recent)


def test_a_queue_that_does_not_move_is_in_the_percentile() -> None:
    meter = Meter()
    meter.ended(0.5, 0.25)
    meter.sample([9.0])
    meter.sample([])
    assert list(meter.samples) == [(1, 1, 9000), (0, 0, 0)]
    assert list(meter.spread) == [(500, 250, 250), (0, 0, 0)]
    milliseconds = [i / 1000 for i in range(1, 201)]
    assert [percentile(milliseconds, percent) for percent in (50, 99)] == [100, 198]


def others(*fields: bytes) -> list[Snapshot]:
    return parse_snapshots(5000, fields, b"own")


def test_what_is_not_of_our_form_is_passed_over() -> None:
    """What a process of 0.2.0 tells is read; its own entry nobody reads."""
    summary = {**told("a", row(7, 1, 2.0), row(None, 1)), "v": VERSION, "samples": [[1, 2, 3]]}
    good = json.dumps({**summary, "added later": 1}).encode()
    assert others(b"a", b"3000 " + good) == [Snapshot(2.0, {**summary, **ADDED})]
    assert others(b"own", b"3000 " + good) == []
    for text in (
        b"",
        b"3000",
        b"x " + good,
        b'3000 {"v": 99}',
        b"3000 [1]",
        b"3000 {",
        b"9999999999999 " + good,
        b"9" * 5000 + b" " + good,
        b'3000 {"v": 1}',
    ):
        assert others(b"a", text) == []


def test_conversations_are_told_one_by_one_within_a_bound() -> None:
    """What is packed is read again; of more than fits the first are told."""
    rows = [row(7, 1, 2.0, "ä\n"), row(None, 2, 3.0, "b")]
    rows[0]["holder"]["lifetime"] = 60.0
    assert parse_rows(pack_rows(rows).encode()) == rows
    many = [row(None, 1, 1.0, f"{'x' * 250}{i}") for i in range(20_000)]
    packed = pack_rows(many)
    assert len(packed) <= ROWS_BYTES
    assert (read := parse_rows(packed.encode())) is not None
    assert read == many[: len(read)]
    summary = json.dumps({**told("a", row(7)), "v": VERSION}).encode()
    one_by_one = b"4000 " + pack_rows(rows).encode()
    (found,) = others(b"a rows", one_by_one, b"a", b"3000 " + summary)
    assert (found.rows_since, found.rows) == (1.0, rows)
    (found,) = others(b"a", b"3000 " + summary, b"a rows", b'4000 [["x", 1, 2]]')
    assert found.rows is None


STRANGE = [None, True, -1, 1.5, float("nan"), 10**400, "x", "\ud800", "x" * 2000, [], [[]], {}, [{}],
           [None], [[1, 2]], [[1, 2, None]], {"id": 5}, {"fence": None}]  # fmt: skip

HOLDER = {"label": "m", "number": 1, "fence": 7, "held_for": 5.0, "lifetime": 60.0}


@given(st.data())
def test_no_part_of_it_is_trusted(data: st.DataObject) -> None:
    """With any part replaced by anything, it is passed over, or can be merged and sent on."""
    summary: Any = {
        **told("a", row(7, 1, 2.0), row(None)), "v": VERSION, "samples": [[1, 2, 3]],
        "spread": [[1, 2, 3]], "address": "a:1", "version": "1", "uptime": 1.0,
        "stores": {"lock_store": {"ms": 0.5, "problem": ""}}, "reasons": {"Busy": 1},
        "failed": [{"Busy": 1}], "errors": [
            {"ago": 1.0, "status": 500, "reason": "Busy", "conversation": "c", "label": None,
             "text": "x"},
        ],
    }  # fmt: skip
    part, key = summary, data.draw(st.sampled_from(sorted(summary)))
    while isinstance(part[key], (dict, list)) and part[key] and data.draw(st.booleans()):
        part = part[key]
        keys = sorted(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
    part[key] = data.draw(st.sampled_from(STRANGE))
    view = View(others(b"a", b"3000 " + json.dumps(summary).encode()))
    JSONResponse({**view.whole, "rows": view.rows})


@given(st.data())
def test_no_row_is_trusted(data: st.DataObject) -> None:
    """With any part replaced by anything, the rows are passed over, or are whole."""
    rows: Any = json.loads(pack_rows([{**row(7, 1, 2.0), "holder": HOLDER}, row(None)]))
    part: Any = rows
    key = data.draw(st.integers(0, len(part) - 1))
    while isinstance(part[key], list) and data.draw(st.booleans()):
        part = part[key]
        key = data.draw(st.integers(0, len(part) - 1))
    part[key] = data.draw(st.sampled_from(STRANGE))
    if (found := parse_rows(json.dumps(rows).encode())) is not None:
        JSONResponse(found)


@pytest.mark.parametrize(("seconds", "warnings"), [(0.3, 1), (0.0, 0)])
async def test_a_bot_that_blocks_is_noticed(
    seconds: float, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a minute, with what to do; a loop that goes on says nothing."""
    monkeypatch.setattr(replicas, "STEP", 0.01)
    monkeypatch.setattr(replicas, "_STILL", 0.2 if seconds else 20.0)
    async with Conversations() as conversations:
        app = create_app(conversations)
        app.live.replicas.start()
        for _ in range(2):
            await asyncio.sleep(0.05)
            time.sleep(seconds)  # what a bot must not do
        await asyncio.sleep(0.05)
        await app.drain()
    said = [one for one in caplog.messages if "stood still" in one and "asyncio.to_thread" in one]
    assert len(said) == warnings
