"""`ticketlock stress` as users run it: real processes, on a Redis of its own and on theirs."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from servers import broken_locks
from servers.redis_sets import RedisCluster
from servers.stress_command import Command

from ticketlock.checker import History
from ticketlock.cli import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_SIGNAL, EXIT_UNAVAILABLE
from ticketlock.redis.embedded import EmbeddedRedis

SHORT = ("--seconds", "1.5", "--processes", "2", "--tasks", "6", "--conversations", "3")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def database(redis_server: EmbeddedRedis) -> redis.Redis:
    """The database of the lock stores; it is empty."""
    found = redis.Redis.from_url(redis_server.url, decode_responses=True)
    found.flushdb()
    return found


def test_the_lock_is_proved_on_a_redis_of_its_own(command: Command) -> None:
    values = command.values(*SHORT, "--history", "history.jsonl")
    assert values["ok"]
    assert not any(values["violations"].values())
    assert values["grants"] > 50
    assert values["accepted"] == 2 * values["grants"]
    assert 0 < values["longest_wait"] < 30
    history = History.read(command.folder / "history.jsonl")
    assert len(history.operations) == values["operations"]
    assert {one.process.partition("/")[0] for one in history.operations} == {"0.0", "1.0"}
    # Turns have waited for others: else nothing would be proved.
    waited = [one for one in history.operations if one.kind == "acquire"]
    assert sum(one.completed - one.invoked > 0.005 for one in waited) > 10
    out, _ = command.run("--check", "history.jsonl")
    assert "overlap       0" in out


def test_a_server_of_the_user_is_left_as_it_was(
    command: Command, redis_server: EmbeddedRedis, database: redis.Redis
) -> None:
    database.set("concurrent_lock:{anna}:holder", "another's")
    file = command.endpoints(redis_server.url, key_prefix="bots")
    values = command.values(*SHORT, "--endpoints", file, "--yes")
    assert values["ok"]
    assert values["grants"] > 50
    assert database.keys() == ["concurrent_lock:{anna}:holder"]
    assert database.get("concurrent_lock:{anna}:holder") == "another's"


def test_messages_on_a_server_of_the_user(
    command: Command, redis_server: EmbeddedRedis, database: redis.Redis
) -> None:
    file = command.endpoints(redis_server.url, key_prefix="bots")
    values = command.values(*SHORT, "--messages", "--endpoints", file, "--yes")
    assert values["ok"], values["examples"]
    assert values["submitted"] == values["finished"] > 50
    assert database.keys() == []


def test_a_cluster_of_the_user_is_left_as_it_was(command: Command) -> None:
    with RedisCluster(3) as cluster:
        nodes = [f"127.0.0.1:{server.port}" for server in cluster.servers]
        section = {"type": "concurrent_redis", "deployment_mode": "cluster", "endpoints": nodes}
        (command.folder / "cluster.yml").write_text(json.dumps({"lock_store": section}))
        values = command.values(*SHORT, "--messages", "--endpoints", "cluster.yml", "--yes")
        assert values["ok"], values["examples"]
        assert values["submitted"] == values["finished"] > 50
        for server in cluster.servers:
            with redis.Redis(port=server.port) as node:
                assert node.keys() == []


def test_messages_are_handled_once_while_workers_are_killed_and_stopped(command: Command) -> None:
    words = ("--messages", "--seconds", "12", "--nemesis", "kill,stop", "--seed", "9")
    values = command.values(*words)
    assert_kept(values)
    assert {"kill", "stop"} <= values["faults"].keys()
    assert values["finished"] >= values["submitted"] > 50


def test_it_asks_before_it_uses_a_server_of_the_user(
    command: Command, redis_server: EmbeddedRedis, database: redis.Redis
) -> None:
    before = database.info("stats")["total_commands_processed"]
    words = ("--endpoints", command.endpoints(redis_server.url), "--key-prefix", "mine")
    out, err = command.run(*SHORT, *words, status=EXIT_BAD_INPUT)
    assert (
        "2 processes will take up to 200 turns a second (about 20 Redis commands each) for 1.5 s"
        in err
    )
    assert (
        "All keys of the run begin with mine: and the keys of locks are removed at the end." in err
    )
    assert "standard input is not a terminal: add --yes" in err
    _, asked = command.run(*SHORT, *words, "--messages", status=EXIT_BAD_INPUT)
    assert "submit and handle up to 200 messages a second for 1.5 s" in asked
    assert "; those of messages and histories stay." in asked
    assert database.info("stats")["total_commands_processed"] - before < 10
    assert out == ""


def test_an_interrupted_run_cleans_up(
    command: Command, redis_server: EmbeddedRedis, database: redis.Redis
) -> None:
    words = ("--endpoints", command.endpoints(redis_server.url), "--yes", "--seconds", "60")
    with command.start(*words) as process:
        try:
            end = time.monotonic() + 60
            while len(database.keys("*:holder")) < 5:  # turns are taken
                assert time.monotonic() < end
                time.sleep(0.05)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == EXIT_SIGNAL + signal.SIGINT, err
    assert database.keys() == []
    assert list(command.temporary.iterdir()) == []
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert len(gone) >= 3
    assert alive == []


@pytest.mark.parametrize(
    ("kind", "found", "more"),
    [
        ("NaiveLockStore", {"overlap", "overtaken", "stale_write"}, []),
        ("LastInStore", {"overtaken"}, []),
        ("LastInStore", {"out_of_order"}, ["--messages"]),
    ],
)
def test_a_broken_lock_is_found_out(
    kind: str, found: set[str], more: list[str], command: Command, redis_server: EmbeddedRedis
) -> None:
    shutil.copy(broken_locks.__file__, command.folder)
    file = command.endpoints(redis_server.url, f"broken_locks.{kind}")
    words = (
        *SHORT,
        *more,
        "--rate",
        "600",
        "--endpoints",
        file,
        "--yes",
        "--timeline",
        "found.html",
    )
    values = command.values(*words, status=EXIT_FAILED)
    page = (command.folder / "found.html").read_text()
    assert all(f"<h2>{kind.replace('_', ' ')}</h2>" in page for kind in found)
    assert found <= {kind for kind, count in values["violations"].items() if count}, values
    assert "PROMISES WERE BROKEN" in values["verdict"]


def test_a_server_that_is_away(command: Command) -> None:
    words = ("--endpoints", command.endpoints("redis://127.0.0.1:1/0"), "--yes")
    _, err = command.run(*words, status=EXIT_UNAVAILABLE)
    assert "nothing listens there" in err


OF_WORKERS, OF_SERVERS = (
    "kill,stop,block,cancel",
    "client-kill,pause,cut,black-hole,bells,restart,disk",
)


def assert_kept(values: dict[str, Any]) -> None:
    """No promise was broken; order is not promised while a server forgets."""
    assert values["ok"], values["examples"]
    assert not any(values["violations"].values())
    assert values["grants"] > 50


def test_the_lock_holds_while_workers_are_killed_and_stopped(command: Command) -> None:
    """A worker is stopped for longer than its lease; its successors have the turns meanwhile. Many
    wait for few conversations, and give up."""
    words = ("--nemesis", "kill,stop,cancel,client-kill,pause", "--conversations", "2")
    values = command.values("--seconds", "12", "--seed", "7", *words)
    assert_kept(values)
    assert {"kill", "stop", "cancel", "client-kill", "pause"} <= values["faults"].keys()
    assert values["forgotten"] == {}
    assert values["longest_recovery"] < 15


@pytest.mark.slow
def test_the_lock_holds_through_all_that_keeps_data(command: Command) -> None:
    words = ("--nemesis", f"{OF_WORKERS},{OF_SERVERS}", "--seed", "8")
    values = command.values("--seconds", "20", *words)
    assert_kept(values)
    assert set(OF_WORKERS.split(",")) <= values["faults"].keys()
    assert len(values["faults"].keys() & set(OF_SERVERS.split(","))) >= 4
    assert "disk" in values["faults"]
    assert values["forgotten"] == {}


def test_no_stale_write_is_stored_when_data_is_lost(command: Command) -> None:
    """Turns may overlap then, for no longer than a lease; where nobody has said that a server loses
    data, the same history breaks promises."""
    words = ("--conversations", "2", "--nemesis", "flushall,wipe", "--history", "history.jsonl")
    values = command.values("--seconds", "8", *words)
    assert_kept(values)
    assert {"flushall", "wipe"} <= values["faults"].keys()
    assert values["longest_overlap"] <= 4
    lines = (command.folder / "history.jsonl").read_text().splitlines()
    assert any('"fault"' in line for line in lines)
    told = [line for line in lines if '"fault"' not in line]
    (command.folder / "history.jsonl").write_text("\n".join(told) + "\n")
    _, err = command.run("--check", "history.jsonl", status=EXIT_FAILED)
    assert "over" in err  # overlap, or overtaken
