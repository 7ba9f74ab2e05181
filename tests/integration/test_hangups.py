"""SIGHUP, which a terminal sends to its processes when it is closed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import until
from integration.test_server import begun, send
from servers.bot_server import answers, replicas, write_files
from servers.processes import child, free_port

from ticketlock.redis.embedded import EmbeddedRedis


@pytest.fixture
def heard() -> Iterator[None]:
    """Processes inherit that SIGHUP is ignored, where the tests run below `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
async def test_a_closed_terminal_drains(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """The turn that runs ends, is answered and stored, as after SIGTERM."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=20) as http:
        with replicas(tmp_path, []) as (one,):
            slow = {"sender": "hung-up", "metadata": {"seconds": 1}}
            holder = asyncio.create_task(send(http, one, "a", **slow))
            await begun(http, one, "hung-up")
            one.process.send_signal(signal.SIGHUP)
            assert [r["text"] for r in (await holder).json()] == ["begun: a", "done: a"]
            await until(lambda: one.process.poll() is not None, "it ends")
            assert one.process.returncode == 0, one.log()
            assert "stopping: 1 turns run" in one.log()


async def test_nohup_stays_so(tmp_path: Path) -> None:
    """Where SIGHUP is ignored, a closed terminal changes nothing."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    command = ["nohup", sys.executable, "-m", "ticketlock", "run", "--port", str(port)]
    with child(command, lambda: answers(f"{url}/health"), log, cwd=tmp_path) as process:
        async with httpx.AsyncClient(timeout=20) as http:
            process.send_signal(signal.SIGHUP)
            sent = {"sender": "a", "message": "still here", "message_id": "1"}
            answer = await http.post(f"{url}/webhooks/rest/webhook", json=sent)
            assert [reply["text"] for reply in answer.json()] == ["still here"]
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, "it ends")
            assert process.returncode == 0
            assert log.read_text().count("stopping") == 1
