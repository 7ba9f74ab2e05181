"""`ticketlock worker` beside replicas that only accept messages: processes, killed and stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers.bot_server import Replica, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis

ACCEPT = ["--accept-only"]
WORKER = ["worker"]
#: Locks that processes share; nothing connects to them here.
SHARED = "lock_store: {type: concurrent_redis, url: redis://127.0.0.1:1}"


@pytest.fixture
def folder(own_redis: EmbeddedRedis, tmp_path: Path) -> Path:
    write_files(tmp_path, own_redis.url, drain_timeout=20)
    return tmp_path


async def say(http: httpx.AsyncClient, to: Replica, sender: str, text: str, **more: Any) -> Any:
    body = {"sender": sender, "message": text, "message_id": text, **more}
    answer = await http.post(f"{to.url}/webhooks/rest/webhook", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return [reply["text"] for reply in answer.json()]


async def handled(http: httpx.AsyncClient, one: Replica) -> int:
    """Turns that ended there."""
    text = (await http.get(f"{one.url}/metrics")).text
    (line,) = [
        line for line in text.splitlines() if line.startswith('ticketlock_turns_total{outcome="ok"')
    ]
    return int(float(line.split()[-1]))


async def test_turns_are_left_to_workers(folder: Path) -> None:
    """Replies come back, in order, and those who accept handle none."""
    with replicas(folder, ACCEPT, ACCEPT, WORKER) as (one, two, worker):
        async with httpx.AsyncClient() as http:
            for i in range(6):
                text = f"{i}"
                replies = await say(http, (one, two)[i % 2], "anna", text)
                assert replies == [f"begun: {text}", f"done: {text}"]
            assert [await handled(http, each) for each in (one, two, worker)] == [0, 0, 6]
            live = (await http.get(f"{one.url}/live")).json()
            assert [process["here"] for process in live["processes"]] == [True] * 3


async def test_a_worker_takes_no_message(folder: Path) -> None:
    with replicas(folder, WORKER) as (worker,):
        async with httpx.AsyncClient(base_url=worker.url) as http:
            answers = [
                await http.post("/webhooks/rest/webhook", json={"sender": "a", "message": "b"}),
                await http.get("/conversations/a/tracker"),
                await http.get("/ready"),
            ]
            assert [one.status_code for one in answers] == [404, 404, 200]


async def test_another_worker_takes_over(folder: Path) -> None:
    """The message of a killed worker is handled by the next; its sender waits all the time."""
    with replicas(folder, ACCEPT, WORKER) as (front, first):
        async with httpx.AsyncClient() as http:
            slow = asyncio.create_task(say(http, front, "anna", "1", metadata={"seconds": 4}))
            await running(http, front, "anna")
            first.process.kill()
            with replicas(folder, WORKER) as (second,):
                assert await slow == ["begun: 1", "done: 1"]
                assert await handled(http, second) == 1


async def test_a_stopped_worker_ends_its_turns(folder: Path) -> None:
    with replicas(folder, ACCEPT, WORKER) as (front, worker):
        async with httpx.AsyncClient() as http:
            slow = asyncio.create_task(say(http, front, "anna", "1", metadata={"seconds": 4}))
            await running(http, front, "anna")
            later = asyncio.create_task(say(http, front, "anna", "2"))
            worker.process.send_signal(signal.SIGTERM)
            assert await slow == ["begun: 1", "done: 1"]
            assert await asyncio.to_thread(worker.process.wait, 20) == 0, worker.log()
            assert not later.done()  # it waits, and is not refused
            with replicas(folder, WORKER):
                assert await later == ["begun: 2", "done: 2"]


async def running(http: httpx.AsyncClient, front: Replica, conversation: str) -> None:
    """Wait until a turn of the conversation runs somewhere."""
    for _ in range(600):
        found = (await http.get(f"{front.url}/live")).json()
        if any(row["id"] == conversation and row["holder"] for row in found["conversations"]):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no turn of {conversation} within 30 s")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ticketlock", *words],
        capture_output=True, text=True, timeout=60, cwd=folder, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words", [["worker"], ["run", "--accept-only", "--port", "0"]], ids=" ".join
)
@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{}", "lock_store: workers need type: concurrent_redis"),
        ("lock_store: {type: in_memory}", "lock_store: workers need type: concurrent_redis"),
        (SHARED, "tracker_store: workers need one that all processes read"),
        (f"{SHARED}\ntracker_store: {{type: in_memory}}", "tracker_store: workers need one"),
        (
            f'{SHARED}\ntracker_store: {{type: sql, db: ":memory:"}}',
            "tracker_store: workers need one",
        ),
    ],
    ids=[
        "nothing",
        "locks in memory",
        "no tracker store",
        "histories in memory",
        "SQLite in memory",
    ],
)
def test_what_is_of_this_process_cannot_be_left(
    words: list[str], section: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "endpoints.yml").write_text(section)
    done = command(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
