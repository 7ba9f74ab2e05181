"""The event service as it runs: child processes of `ticketlock events consume`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from ticketlock.stores.sql.opening import made, read
from ticketlock.stores.sql.settings import SQLSettings

from ticketlock.endpoints.registry import create_event_broker
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import BrokerMessage
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import SQLStoreKeys

from .processes import popen
from .versions import environment


def write_endpoints(path: Path, broker: dict[str, Any], service: dict[str, Any]) -> Path:
    """An `endpoints.yml`; JSON is YAML."""
    document = {"event_broker": broker, "event_service": service}
    path.write_text(json.dumps(document).replace("${", "$${"))
    return path


class Consumer:
    """One running instance; its summary and its log are there when it has ended.

    Args:
        version: a folder of `versions`; None: this checkout.
    """

    def __init__(self, endpoints: Path, *words: str, version: Path | None = None) -> None:
        command = [sys.executable, "-m", "ticketlock", "events", "consume", "--json"]
        self._log = endpoints.with_name(f"{endpoints.stem} {os.urandom(4).hex()}.log")
        with self._log.open("wb") as log:
            self.process = popen(
                [*command, "--endpoints", str(endpoints.resolve()), *words],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=endpoints.parent,
                env=environment(version),
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL: it can do nothing about it."""
        self.process.kill()
        self.process.communicate()

    def stop(self, number: int = signal.SIGTERM) -> dict[str, int]:
        """End it as an operator does; the summary."""
        self.process.send_signal(number)
        return self.summary()

    def summary(self, seconds: float = 60) -> dict[str, int]:
        """What it says at its end, for which this waits."""
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not end: {self.log}") from None
        assert self.process.returncode == 0, self.log
        return dict(json.loads(out))

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def query(service: dict[str, Any], text: str) -> list[Any]:
    """Rows of the service's database."""
    keys = {k: v for k, v in service.items() if k not in ("type", "group", "instance", "queue")}

    async def body() -> list[Any]:
        engine = made(SQLSettings.read(Section(keys, "test"), SQLStoreKeys))
        try:
            return await read(engine, lambda c: list(c.execute(sa.text(text)).all()))
        finally:
            await engine.dispose()

    with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop
        return thread.submit(asyncio.run, body()).result()


def stored(service: dict[str, Any]) -> list[tuple[str, int, int]]:
    """The names of all stored events, in the database's order of them."""
    rows = query(service, "SELECT sender_id, history, sequence FROM ticketlock_service_events")
    names = [(s if isinstance(s, str) else bytes(s).decode(), h, n) for s, h, n in rows]
    return sorted(names)


async def deliver(
    broker: EventBroker, messages: Sequence[BrokerMessage], batch: int = 2000
) -> None:
    """Publish in order, again until the broker has confirmed."""
    for start in range(0, len(messages), batch):
        left = list(messages[start : start + batch])
        while left:
            outcomes = await broker.deliver(left, 30)
            left = [m for m, o in zip(left, outcomes, strict=True) if o.status == "retry"]


def publish(section: dict[str, Any], messages: Sequence[BrokerMessage]) -> None:
    """Publish by the project's own broker."""

    async def body() -> None:
        broker = await create_event_broker(section)
        assert broker is not None
        try:
            await deliver(broker, messages)
        finally:
            await broker.close()

    asyncio.run(body())
