"""Histories in files, and each violation in a history that a person can follow."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ticketlock import ConfigurationError
from ticketlock.checker import Fault, History, Operation, Recorder, check
from ticketlock.checker.operations import Kind


def op(kind: Kind, process: str, invoked: float, completed: float, **more: Any) -> Operation:
    more = {"conversation": "anna", "outcome": "ok", **more}
    return Operation(kind, process, invoked=invoked, completed=completed, **more)


def kinds(*operations: Operation, faults: list[Fault] | None = None, **how: Any) -> list[str]:
    return [one.kind for one in check(History(operations, faults or ()), **how).violations]


def turn(process: str, since: float, until: float, **more: Any) -> list[Operation]:
    return [op("acquire", process, since, since, **more), op("release", process, until, until)]


def test_turns_one_after_another_are_well() -> None:
    assert kinds(*turn("a", 1, 2, fence=1), *turn("b", 2, 3, fence=2)) == []


def test_two_holders_overlap() -> None:
    verdict = check(History([*turn("a", 1, 5), *turn("b", 2, 3)]))
    assert [one.kind for one in verdict.violations] == ["overlap"]
    assert verdict.violations[0].operation.process == "b"
    assert verdict.violations[0].seconds == verdict.longest_overlap == 1
    assert str(verdict.violations[0]) == (
        "overlap: conversation 'anna': the turn of process b was granted at 2.000, and the turn of "
        "process a was held until 5.000"
    )


def test_other_conversations_do_not_overlap() -> None:
    assert kinds(*turn("a", 1, 5), *turn("b", 2, 3, conversation="ben")) == []


def test_a_turn_is_held_no_longer_than_its_lease() -> None:
    """Its process was stopped, and used the turn long after."""
    frozen = turn("a", 1, 9, lease_until=3)
    assert kinds(*frozen, *turn("b", 4, 5)) == []
    assert kinds(*frozen, *turn("b", 2, 5)) == ["overlap"]


def test_a_dead_holder_is_known_to_hold_up_to_its_last_write() -> None:
    dead = [op("acquire", "a", 1, 1), op("write", "a", 4, 4)]
    assert kinds(*dead, *turn("b", 5, 6)) == []
    assert kinds(*dead, *turn("b", 3, 6)) == ["overlap"]


def test_an_older_fence_that_is_granted_later_and_held_overlaps() -> None:
    """The answer was late: the turn of b was granted, and over, within that of a."""
    late = op("acquire", "a", 1, 5, fence=1), op("release", "a", 6, 6)
    assert kinds(*late, *turn("b", 2, 3, fence=2)) == ["overlap"]
    assert kinds(*late, *turn("b", 2, 3, fence=0)) == []


def test_order_is_that_in_which_places_were_certain() -> None:
    first, second = op("acquire", "a", 1, 9, arrived=2), op("acquire", "b", 3, 4)
    assert kinds(first, second, op("release", "b", 5, 5)) == ["overtaken"]
    beside = op("acquire", "b", 1.5, 4)
    assert kinds(first, beside, op("release", "b", 5, 5)) == []
    stopped = [Fault("stop", 2.5, 8, process="a")]
    assert kinds(first, second, op("release", "b", 5, 5), faults=stopped) == []


def test_a_stale_write_is_found_with_fences_and_without() -> None:
    for fences in ({"fence": 1}, {"fence": 2}), ({}, {}):
        a, b = fences
        operations = [
            op("acquire", "a", 1, 1, **a), op("acquire", "b", 5, 5, **b),
            op("write", "b", 6, 6, **b), op("write", "a", 7, 7, **a),
        ]  # fmt: skip
        found = set(kinds(*operations))
        assert "stale_write" in found, fences


def test_a_message_that_begins_after_its_lease() -> None:
    """Its process was stopped between grant and begin: when it was granted is not known."""

    def begin(process: str, at: float, fence: int, lease: float) -> Operation:
        return op("begin", process, at, at, message=process, fence=fence, lease_until=lease)

    assert kinds(begin("b", 6, 2, 10), begin("a", 7, 1, 5)) == []
    assert "fence_order" in kinds(begin("b", 6, 2, 10), begin("a", 7, 1, 8))
    late = op("acquire", "a", 7, 7, fence=1, lease_until=5)
    assert "fence_order" in kinds(begin("b", 6, 2, 10), late)


def test_what_servers_forgot_is_counted_apart() -> None:
    loss = Fault("restart", 2, 3, loses=True)
    operations = [*turn("a", 1, 6), *turn("b", 4, 9)]
    assert check(History(operations), lease=5).counts()["overlap"] == 1
    verdict = check(History(operations, [loss]), lease=5)
    assert verdict.ok
    assert [one.kind for one in verdict.forgotten] == ["overlap"]
    assert verdict.longest_overlap == 2
    # It lasts beyond the lease after the loss.
    assert check(History(operations, [loss]), lease=1).counts()["overlap"] == 1


def test_what_was_durable_is_not_forgotten() -> None:
    """A grant, while its own lease lasts; not a renewed one, nor one that was told early."""
    loss = Fault("failover", 0, 9, loses=True, durable=True)
    assert kinds(*turn("a", 1, 5), *turn("b", 2, 3), faults=[loss]) == ["overlap"]
    assert kinds(*turn("a", 1, 5, lease_until=1.5), faults=[loss]) == []
    held = [op("acquire", "a", 1, 1, lease_until=2), op("release", "a", 5, 5, lease_until=6)]
    assert kinds(*held, *turn("b", 3, 4), faults=[loss]) == []
    assert kinds(*held, *turn("b", 1.5, 4), faults=[loss]) == ["overlap"]
    told = Fault("not durable", 0.5, 1.5, "a", loses=True)
    assert kinds(*turn("a", 1, 5), *turn("b", 2, 3), faults=[loss, told]) == []
    later = replace(told, since=2.0)
    assert kinds(*turn("a", 1, 5), *turn("b", 2, 3), faults=[loss, later]) == ["overlap"]


def test_a_fault_whose_end_is_recorded_later(tmp_path: Path) -> None:
    with Recorder(tmp_path / "history") as recorder:
        for fault in (Fault("a", 1, process="p"), Fault("b", 1), Fault("a", 1, 2, "p")):
            recorder.fault(fault)
    assert History.read(tmp_path / "history").faults == [Fault("a", 1, 2, "p"), Fault("b", 1)]


def test_messages() -> None:
    def message(name: str, at: float, done: float, **more: Any) -> list[Operation]:
        return [
            op("submit", "s", at, at, message=name),
            op("finish", "w", done, done, message=name, **more),
        ]

    assert kinds(*message("1", 1, 5), *message("2", 2, 6)) == []
    assert kinds(*message("1", 1, 6), *message("2", 2, 5)) == ["out_of_order"]
    assert kinds(*message("1", 1, 5), *message("1", 2, 6)) == ["duplicated"]
    assert kinds(op("submit", "s", 1, 1, message="1")) == ["lost"]
    assert kinds(*message("1", 1, 5, outcome="unknown")) == []
    assert kinds(*message("1", 1, 5, outcome="fail")) == ["lost"]


def test_a_wait_above_the_bound() -> None:
    endless = Operation("acquire", "a", "anna", 1)
    assert kinds(op("acquire", "b", 1, 9), wait_bound=5) == ["long_wait"]
    assert kinds(op("acquire", "b", 1, 9), wait_bound=10) == []
    assert kinds(endless, *turn("b", 9, 9), wait_bound=5) == ["long_wait"]
    assert (
        kinds(endless, *turn("b", 9, 9), wait_bound=5, faults=[Fault("kill", 2, process="a")]) == []
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "hold"}, "kind 'hold' is not one of acquire, write"),
        ({"outcome": "perhaps"}, "outcome 'perhaps' is not one of ok, fail"),
        ({"completed": 0.5}, "is before invoked"),
        ({"completed": math.nan}, "is before invoked"),
        ({"outcome": "ok"}, "has completed: say when"),
        ({"kind": "submit"}, "'submit' needs a message id"),
    ],
)
def test_an_operation_that_cannot_be(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Operation(
            **{"kind": "write", "process": "a", "conversation": "anna", "invoked": 1, **values}
        )


def test_a_history_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    operations = [
        Operation("acquire", "a/1", "anna\n{}", 1.5),
        op("write", "a/1", 2, 3, fence=7, lease_until=4.5, position=0),
        op("finish", "b", 2, 3, message="m 1", outcome="fail"),
    ]
    loss = Fault("failover", 1, loses=True, conversations=("anna\n{}", "b"))
    faults = [Fault("stop", 1, 2, "a"), Fault("restart", 1, loses=True), loss]
    History(operations, faults).write(path)
    read = History.read(path)
    assert (read.operations, read.faults) == (operations, faults)


def test_a_recorder_that_is_killed(tmp_path: Path) -> None:
    """What it has recorded is there: the operation under way has no outcome."""
    path = tmp_path / "history.jsonl"
    program = (
        "import sys, time\n"
        "from ticketlock.checker import Recorder\n"
        "with Recorder(sys.argv[1]) as recorder:\n"
        "    call = recorder.invoke('acquire', 'a', 'anna')\n"
        "    call.arrived()\n"
        "    call.ok(fence=3)\n"
        "    recorder.invoke('write', 'a', 'anna', fence=3)\n"
        "    print('recorded', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    with path.open("a") as file:
        file.write('{"number":3,"kind":"rel')  # the kill cut it off
    acquire, write = History.read(path).operations
    assert (acquire.outcome, acquire.fence) == ("ok", 3)
    assert acquire.arrived is not None
    assert acquire.invoked <= acquire.arrived <= acquire.completed
    assert (write.outcome, write.completed) == ("unknown", math.inf)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ('{"kind": "acquire"}', "process and conversation and invoked missing"),
        ('{"fault": "stop"}', "since missing"),
        ('{"fault": "stop", "since": 1, "till": 2}', "till not known"),
        ('{"x": 1}', "missing"),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    good = {"kind": "acquire", "process": "a", "conversation": "c", "invoked": 1}
    path.write_text(json.dumps(good) + f"\n{line}\n")
    with pytest.raises(
        ConfigurationError, match=rf"history.jsonl, line 2 is not an operation.*{why}"
    ):
        History.read(path)


def test_a_history_has_a_limit(tmp_path: Path) -> None:
    history = History(limit=1)
    history.add(op("write", "a", 1, 2))
    with pytest.raises(ConfigurationError, match="a history of more than 1 operations"):
        history.add(op("write", "a", 1, 2))
    path = tmp_path / "history.jsonl"
    with Recorder(path) as recorder:
        for _ in range(3):
            recorder.invoke("release", "a", "anna")
    with pytest.raises(ConfigurationError, match="a history of more than 2 operations"):
        History.read(path, limit=2)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.jsonl cannot be read"):
        History.read(tmp_path / "none.jsonl")


def test_the_time_grows_with_the_size_and_not_faster() -> None:
    """Processor time, of histories where turns and messages are many in one conversation."""

    def spent(size: int) -> float:
        operations = []
        for place in range(size):
            operations += turn(f"a/{place % 7}", place, place + 0.5, fence=place, arrived=place)
            operations.append(op("write", f"a/{place % 7}", place, place + 0.1, fence=place))
            operations.append(op("submit", "s", place, place, message=str(place)))
            operations.append(op("finish", "w", place + 0.5, place + 0.6, message=str(place)))
        history = History(operations)
        begun = time.process_time()
        assert check(history, wait_bound=5).ok
        return time.process_time() - begun

    small, large = min(spent(1000) for _ in range(3)), min(spent(8000) for _ in range(3))
    assert large < 24 * small  # a square would be 64
