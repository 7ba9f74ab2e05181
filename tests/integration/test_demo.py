"""The demo as people run it: processes, real stores, SIGKILL; and inspect and break."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import ConcurrentRedisLockStore, LockLost
from ticketlock.cli import EXIT_FAILED, EXIT_OK, EXIT_SIGNAL, EXIT_UNAVAILABLE
from ticketlock.conversations import Conversations
from ticketlock.demo.bot import EchoBot
from ticketlock.demo.judge.records import Records
from ticketlock.demo.judge.stored import read_turns
from ticketlock.demo.judge.turns import KINDS
from ticketlock.files.scratch import sweep
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Handler, Message, Settings
from ticketlock.tracker import Claim


class Command:
    """`python -m ticketlock ...` with a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replicas: set[psutil.Process] = set()

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "ticketlock", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder)},
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=180)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return process.returncode, out, err

    def demo(self, *words: str, status: int = EXIT_OK) -> dict[str, Any]:
        returned, out, err = self.run("demo", "--json", *words)
        assert returned == status, err
        assert list(self.folder.iterdir()) == []
        values: dict[str, Any] = json.loads(out.splitlines()[-1])
        return values

    def children(self, process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
        """The `count` replicas of a running demo, waited for."""
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            found = psutil.Process(process.pid).children(recursive=True)
            found = [child for child in found if "ticketlock.demo.replica:bot" in _words(child)]
            if len(found) == count:
                return found
            time.sleep(0.02)
        raise AssertionError(f"there were never {count} replicas")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "tmp")


def assert_kept(values: dict[str, Any], count: int) -> None:
    assert {kind: values[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert values["handled"] == values["messages"] == count


def test_a_demo_keeps_every_promise_with_a_redis_of_its_own(command: Command) -> None:
    values = command.demo("--count", "200", "--conversations", "20")
    assert_kept(values, 200)
    assert (values["conversations"], values["replicas"], values["kills"]) == (20, 3, 0)
    assert values["recovery_s"] is None
    assert 0 < values["handoff_ms"]["p50"] <= values["handoff_ms"]["p99"]
    assert 0 < values["wait_ms"]["p50"] <= values["wait_ms"]["p99"]
    stores = (values["tracker_store"], values["lock_store"])
    assert stores == ("sql (sqlite)", "concurrent_redis")


def test_the_table_is_for_people(command: Command, redis_server: EmbeddedRedis) -> None:
    """The figures, and on SQLite what takes the time."""
    words = ("--events", "--count", "30", "--replicas", "1", "--redis", redis_server.url)
    status, out, _ = command.run("demo", *words)
    assert status == EXIT_OK
    for title in ("throughput", "hand-off p50 / p99", "overlaps", "events received"):
        assert title in out
    assert "The times are mostly those of SQLite and HTTP" in out


def test_bots_without_the_lock_are_found_out(command: Command, redis_server: EmbeddedRedis) -> None:
    words = ("--unlocked", "--count", "100", "--conversations", "10", "--replicas", "2")
    values = command.demo(*words, "--redis", redis_server.url, status=EXIT_FAILED)
    assert values["overlaps"] > 0
    assert values["stale_fences"] > 0
    assert values["damaged"] == 0


def test_both_are_compared(command: Command, redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """The same messages with and without the lock; the picture shows what overlapped."""
    picture = tmp_path / "compare.svg"
    values = command.demo(
        "--compare", "--count", "100", "--conversations", "5", "--replicas", "2",
        "--redis", redis_server.url, "--picture", str(picture),
    )  # fmt: skip
    assert_kept(values["with_lock"], 100)
    assert values["without_lock"]["overlaps"] > 0
    assert values["verdict"].startswith("Verdict: with the lock all 100 messages")
    assert "turns overlapped" in values["verdict"]
    assert picture.read_text().count("#d0342c") > 1


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 3])
def test_killed_replicas_break_no_promise(
    replicas: int, command: Command, redis_server: EmbeddedRedis
) -> None:
    values = command.demo(
        "--kill", "--count", "120", "--replicas", str(replicas), "--redis", redis_server.url
    )
    assert_kept(values, 120)
    assert values["kills"] == 3
    assert values["resent"] > 0
    if values["unfinished"]:  # a killed one held no turn in an unlikely run
        assert 0 < values["recovery_s"] < 30  # starting a replica anew counts, beside other tests


def test_a_transcript_is_replayed_on_a_redis_that_keeps_its_data(
    command: Command, own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    """It gets no lasting key either."""
    file = tmp_path / "chat.jsonl"
    names = ["a|b", "[x]^", "`{0}", "two words", "\N{SNOWMAN}"]
    lines = [{"sender_id": names[i % 5], "text": f"{i}", "timestamp": i / 2} for i in range(120)]
    file.write_text("\n".join(map(json.dumps, lines)))
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("precious", "1")
        words = ("--messages", str(file), "--in-flight", "7", "--replicas", "2")
        values = command.demo(*words, "--redis", own_redis.url)
        assert_kept(values, 120)
        assert values["conversations"] == 5
        assert client.get("precious") == b"1"
        keys = [key for key in client.scan_iter() if key != b"precious"]
        assert keys
        assert all(client.ttl(key) > 0 for key in keys)


def test_an_ended_demo_leaves_nothing_behind(command: Command) -> None:
    number = signal.SIGTERM  # test_demo_stores.py has the other one
    process = command.start("demo", "--json", "--count", "100000")
    try:
        started = [*command.children(process, 3), *psutil.Process(process.pid).children()]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == EXIT_SIGNAL + number
    assert signal.Signals(number).name in err
    assert "Traceback" not in err
    assert out == ""
    assert list(command.folder.iterdir()) == []
    assert not any(child.is_running() for child in started)


def test_a_replica_that_ends_by_itself_ends_the_demo(
    command: Command, redis_server: EmbeddedRedis
) -> None:
    process = command.start("demo", "--json", "--count", "100000", "--redis", redis_server.url)
    try:
        replicas = command.children(process, 3)
        process.stderr.readline()  # type: ignore[union-attr]  # a pipe
        time.sleep(0.5)
        replicas[0].kill()
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == EXIT_UNAVAILABLE, err
    assert "replica" in err
    assert "Traceback" not in err
    assert not any(child.is_running() for child in replicas)


def _started(folder: Path) -> bool:
    # Not `iterdir`: Python itself tries with a file whether the folder is one for such files.
    return any(folder.glob("ticketlock-*"))


def _serves(folder: Path) -> bool:
    return any("accept connections" in log.read_text() for log in folder.glob("*-redis-*/log"))


def _starts_replicas(folder: Path) -> bool:
    return len(list(folder.glob("*-demo-*/replica-*.log"))) == 3


def _handles(folder: Path) -> bool:
    return len([*folder.glob("*-demo-*/" + "?" * 64)]) > 5


@pytest.mark.parametrize("moment", [_started, _serves, _starts_replicas, _handles])
def test_nothing_outlives_a_killed_demo(moment: Callable[[Path], bool], command: Command) -> None:
    """Neither its server nor its replicas nor a folder."""
    process = command.start("demo", "--json", "--count", "100000")
    try:
        end = time.monotonic() + 120  # beside other tests
        while not moment(command.folder):
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)  # so that the list is complete
        started = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.communicate()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    # The moment may have been before there was anybody to clear up: then the next start does.
    sweep(str(command.folder))
    assert list(command.folder.iterdir()) == []


# -- the bot ----------------------------------------------------------------------------------------


MESSAGE = Message("hi", "c", "5")


async def test_the_bot_handles_a_message_once(tmp_path: Path) -> None:
    records = Records(tmp_path)
    async with Conversations() as conversations:
        for name in ("0.0", "1.0"):
            bot = EchoBot(records, name)
            replies = await Handler(conversations, bot, Settings()).handle(MESSAGE)
            assert [reply["text"] for reply in replies] == ["hi"]
        tracker = await conversations.tracker_store.retrieve("c")
    assert [e and (e.event, e.replica) for e in records.read("c")] == [
        ("begin", "0.0"),
        ("end", "0.0"),
    ]
    assert tracker is not None
    start = ["action", "session_started", "action"]
    assert [e.type_name for e in tracker.events[:3]] == start
    assert [(e.type_name, e.as_dict()["text"]) for e in tracker.events[3:]] == [
        ("user", "hi"),
        ("bot", "hi"),
    ]
    (turn,), halves, found = read_turns(tracker.events, {5: "hi"})
    assert (halves, found) == (set(), [])
    assert (turn.message, turn.seen, turn.number, turn.replica) == (5, 0, 1, "0.0")


async def test_the_bots_turn_is_one_write_and_its_end_is_recorded_behind_it(tmp_path: Path) -> None:
    records = Records(tmp_path)
    at_write: list[list[str | None]] = []

    class Noted(InMemoryTrackerStore):
        async def append(self, claim: Claim, *events: Any) -> None:
            await super().append(claim, *events)
            at_write.append([e and e.event for e in records.read("c")])

    async with Conversations(tracker_store=Noted()) as conversations:
        await Handler(conversations, EchoBot(records, "0.0"), Settings()).handle(MESSAGE)
    assert at_write == [["begin"]]
    assert [e and e.event for e in records.read("c")] == ["begin", "end"]


async def test_no_end_is_recorded_where_the_lock_was_lost_behind_the_write(tmp_path: Path) -> None:
    records = Records(tmp_path)
    async with Conversations() as conversations:
        with pytest.raises(LockLost):
            async with conversations.turn("c") as turn:
                async for reply in EchoBot(records, "0.0")(turn, MESSAGE):
                    turn.say(reply)
                assert turn.around_commit is not None
                turn.grant.unbind()
                turn.grant.lose("for the test")
                await turn.around_commit.after()
    assert [e and e.event for e in records.read("c")] == ["begin", "lost"]


async def test_the_bot_writes_nothing_once_its_turn_is_lost(tmp_path: Path) -> None:
    records = Records(tmp_path)
    async with Conversations() as conversations:
        with pytest.raises(LockLost):
            async with conversations.turn("c") as turn:
                turn.grant.lose("for the test")
                async for _ in EchoBot(records, "0.0")(turn, MESSAGE):
                    pass
        assert not await conversations.tracker_store.exists("c")
    assert [e and e.event for e in records.read("c")] == ["begin", "lost"]


# -- inspect and break --------------------------------------------------------------------------------


async def test_inspect_and_break_a_turn_that_hangs(
    command: Command,
    redis_server: EmbeddedRedis,
) -> None:
    where = ("hangs {x}", "--redis", redis_server.url, "--key-prefix", "ops")

    async def ticketlock(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(command.run, words[0], *where, *words[1:])

    async with ConcurrentRedisLockStore(url=redis_server.url, key_prefix="ops") as store:
        hanging = store.lock(where[0], label="message 1")
        grant = await hanging.acquire()
        behind = store.lock(where[0], label="message 2")
        await behind.queue()

        status, out, _ = await ticketlock("inspect")
        assert status == EXIT_OK
        assert f"process {os.getpid()} ('message 1')" in out
        assert f"fence {grant.fence}" in out
        assert f"process {os.getpid()} ('message 2')" in out
        _, out, _ = await ticketlock("inspect", "--json")
        values = json.loads(out)
        assert values["holder"]["fence"] == grant.fence
        assert [ticket["label"] for ticket in values["waiting"]] == ["message 2"]

        status, out, _ = await ticketlock("break", "--fence", str(grant.fence + 1))
        assert (status, out.split(":")[0]) == (EXIT_FAILED, "not broken")
        assert grant.reason is None
        status, out, _ = await ticketlock("break", "--fence", str(grant.fence - 1))
        assert status == EXIT_FAILED
        assert out.startswith("not broken: it has another fence: host ")
        status, out, _ = await ticketlock("break", "--fence", str(grant.fence))
        assert (status, out.split(":")[0]) == (EXIT_OK, "broken")
        next_grant = await behind.acquire()
        assert next_grant.fence > grant.fence
        with pytest.raises(LockLost, match="broke"):
            await hanging.release()

        _, out, _ = await ticketlock("break", "--json")
        assert json.loads(out)["broken"] is True
        with pytest.raises(LockLost):
            await behind.release()
        status, out, _ = await ticketlock("break")
        assert (status, out) == (EXIT_FAILED, "not broken: no turn holds it\n")
        _, out, _ = await ticketlock("inspect")
        assert "not held" in out
