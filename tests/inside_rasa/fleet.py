"""Two replicas of `rasa run` with the stores of one kind, on one Redis."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import redis
from servers.processes import free_port, popen

from ticketlock import ConcurrentRedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis

from .actions import Actions
from .environment import environ

#: Seconds that both replicas have to start: each imports TensorFlow.
START_SECONDS = 240


def text(number: int | str) -> str:
    """The user's message of a number."""
    return f'/say{{"n": "{number}"}}'


class Fleet:
    """The replicas, from `start` to `close`.

    Args:
        kind: makes the sections `lock_store`, `tracker_store` and `event_broker`, given the
            port of a Redis.
        command: `rasa`, and the model.
        folder: for logs and the `endpoints.yml`.
    """

    def __init__(
        self, kind: Callable[[int], dict[str, Any]], command: tuple[Path, Path], folder: Path
    ) -> None:
        self.redis, self.actions = EmbeddedRedis(), Actions()
        self.ports = [free_port(), free_port()]
        self.client = httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None))
        self._kind, self._command, self._folder = kind, command, folder
        self._processes: dict[int, subprocess.Popen[Any]] = {}

    async def __aenter__(self) -> Fleet:
        self.redis.start()
        await self.actions.__aenter__()
        self.ours = ConcurrentRedisLockStore(url=self.redis.url)
        sections = self._kind(self.redis.port)
        sections["action_endpoint"] = {"url": f"http://127.0.0.1:{self.actions.port}/webhook"}
        endpoints = self._folder / "endpoints.yml"
        endpoints.write_text(json.dumps(sections))  # JSON is YAML
        try:
            for number in range(2):
                self.start(number)
            end = time.monotonic() + START_SECONDS
            for number in range(2):
                await self.ready(number, end)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        await self.client.aclose()
        await self.ours.close()
        await self.actions.__aexit__()
        self.redis.__exit__()

    def start(self, number: int) -> None:
        """Start a replica."""
        rasa, model = self._command
        words = [
            str(rasa), "run", "--model", str(model), "--endpoints", "endpoints.yml", "--enable-api",
            "--interface", "127.0.0.1", "--port", str(self.ports[number]),
        ]  # fmt: skip
        with self.log(number).open("ab") as log:
            process = popen(
                words, cwd=self._folder, env=environ(), stdout=log, stderr=subprocess.STDOUT
            )
        self._processes[number] = process

    def log(self, number: int) -> Path:
        """What a replica has said."""
        return self._folder / f"replica-{number}.log"

    async def ready(self, number: int, end: float) -> None:
        """Wait until a replica answers. Raises RuntimeError with what it said."""
        while True:
            said = self.log(number).read_text(errors="replace")[-3000:]
            if self._processes[number].poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"rasa did not start: {said}")
            try:
                answer = await self.client.get(f"{self.address(number)}/status", timeout=5)
                if answer.status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)

    async def restart(self, number: int) -> None:
        """Kill a replica where it stands, and start it again."""
        self._processes[number].kill()
        self._processes[number].wait()
        self.start(number)
        await self.ready(number, time.monotonic() + START_SECONDS)

    def address(self, number: int) -> str:
        return f"http://127.0.0.1:{self.ports[number]}"

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a replica, which is one process."""
        self._processes[number].send_signal(which)

    async def say(self, number: int, conversation: str, message: str) -> list[str]:
        """Send a message to a replica; the texts of its replies. Raises httpx.HTTPError."""
        answer = await self.client.post(
            f"{self.address(number)}/webhooks/rest/webhook",
            json={"sender": conversation, "message": message},
        )
        answer.raise_for_status()
        return [reply["text"] for reply in answer.json()]

    async def history(self, number: int, conversation: str) -> list[dict[str, Any]]:
        """All events of a conversation, as a replica reads them."""
        answer = await self.client.get(
            f"{self.address(number)}/conversations/{conversation}/tracker?include_events=ALL"
        )
        answer.raise_for_status()
        return list(answer.json()["events"])

    async def queued(self, conversation: str, count: int) -> None:
        """Wait until so many tickets of a conversation wait behind the one that is served."""
        end = time.monotonic() + 30
        while await self._waiting(conversation) < count:
            assert time.monotonic() < end, f"{conversation}: {count} messages do not wait"
            await asyncio.sleep(0.02)

    async def _waiting(self, conversation: str) -> int:
        with redis.Redis(port=self.redis.port, db=1) as client:
            document = client.get(f"lock:{conversation}")  # Rasa's own lock store
        if document is not None:
            return len(json.loads(document)["tickets"]) - 1
        return (await self.ours.inspect(conversation)).waiting_count
