"""The guide of docs/inside-rasa.md, followed with traffic running: three steps, and the ways back."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from servers import kafka_server, mongo
from servers.event_brokers import Backend, FileBackend, KafkaBackend
from servers.processes import temporary_folder

from ticketlock.redis.embedded import EmbeddedRedis

from .actions import Actions
from .deployment import Deployment, Step
from .environment import environ
from .scenarios import said
from .traffic import Traffic, compare

#: Replies to each sender between two changes, and the seconds for them and for the last ones.
REPLIES, PATIENCE = 5, 180

#: The changes of each plan: how, and to which step. `roll`: one by one. `switch`: all old ones are
#: stopped before the new ones get traffic; `back` copies the histories meanwhile.
FULL = (
    "roll locks", "switch all", "back locks", "roll stock", "switch all", "roll bot", "roll all",
)  # fmt: skip
SHORT = ("switch all", "back stock", "switch all", "roll bot")


@dataclass
class Backends:
    """What the deployment of a plan uses beside Redis.

    Attributes:
        tracker: the section of Rasa's tracker store, given the port of a Redis.
        fenced: the `type` of ours inside Rasa; outside it has Rasa's name.
        broker: where the events go.
        broker_type: the `type` of ours.
    """

    tracker: Callable[[int], dict[str, Any]]
    fenced: str
    broker: Backend
    broker_type: str
    plan: tuple[str, ...]

    def steps(self, port: int) -> dict[str, Step]:
        """Only the types change from step to step."""
        lock = {"url": "127.0.0.1", "port": port, "db": 1}
        tracker, broker = self.tracker(port), self.broker.section()
        stock = {
            "lock_store": {**lock, "type": "redis"},
            "tracker_store": tracker,
            "event_broker": {**broker, "partition_by_sender": True}
            if broker["type"] == "kafka"
            else broker,
        }
        ours = {
            "lock_store": {**lock, "type": "ticketlock.rasa.ConcurrentRedisLockStore"},
            "tracker_store": {**tracker, "type": self.fenced},
            "event_broker": {**broker, "type": self.broker_type},
        }
        locks = {**stock, "lock_store": {**lock, "type": "ticketlock.RedisLockStore", "lease": 60}}
        bot = {**ours, "server": {"allowed_hosts": ["bot"]}}  # as nginx calls its upstream
        return {
            "stock": Step("stock", stock),
            "locks": Step("locks", locks),
            "all": Step("all", ours),
            "bot": Step("bot", bot, rasa=False),
        }


@contextmanager
def redis_and_file() -> Iterator[Backends]:
    """Histories in Redis, events in a file."""

    def tracker(port: int) -> dict[str, Any]:
        return {"type": "redis", "url": "127.0.0.1", "port": port, "db": 2}

    with temporary_folder() as folder:
        broker = FileBackend(None, Path(folder))
        yield Backends(
            tracker, "ticketlock.rasa.RedisTrackerStore", broker,
            "ticketlock.brokers.FileEventBroker", FULL,
        )  # fmt: skip


@contextmanager
def mongo_and_kafka() -> Iterator[Backends]:
    """Histories in MongoDB, events at Kafka."""
    with mongo.url() as found, kafka_server.Kafka() as server:
        tracker = {"type": "mongod", "url": found, "db": "three-steps"}
        yield Backends(
            lambda port: tracker, "ticketlock.rasa.MongoTrackerStore",
            KafkaBackend(server, Path()), "ticketlock.brokers.KafkaEventBroker", SHORT,
        )  # fmt: skip


MIGRATIONS: dict[str, Callable[[], AbstractContextManager[Backends]]] = {
    "steps redis+file": redis_and_file,
    "steps mongo+kafka": mongo_and_kafka,
}


class Migration:
    """One run of a plan.

    Args:
        command: `rasa`, and the model.
    """

    def __init__(self, backends: Backends, command: tuple[Path, Path], folder: Path) -> None:
        self._backends, self._command, self._folder = backends, command, folder
        self._failed = 0

    async def run(self) -> int:
        """Follow the plan; prints what was found, returns how many checks failed."""
        limits = httpx.Limits(max_connections=None)
        with EmbeddedRedis() as redis:
            async with (
                Actions() as actions,
                httpx.AsyncClient(timeout=120, limits=limits) as client,
            ):
                url = f"http://127.0.0.1:{actions.port}/webhook"
                async with Deployment(*self._command, self._folder, url, client) as deployment:
                    steps = self._backends.steps(redis.port)
                    try:
                        await self._follow(deployment, steps, actions)
                    except (AssertionError, asyncio.TimeoutError) as error:
                        self._report("did not go on", repr(error), False)
                    if self._failed:
                        deployment.tell()
        return self._failed

    async def _follow(
        self, deployment: Deployment, steps: dict[str, Step], actions: Actions
    ) -> None:
        deployment.replicas = await deployment.start(steps["stock"], 2)
        deployment.reload()
        await deployment.reached()
        traffic, now = Traffic(deployment.url, deployment.client), "stock"
        traffic.step = now
        traffic.start()
        await traffic.until(REPLIES, PATIENCE)
        for number, change in enumerate(self._backends.plan, 1):
            how, to = change.split()
            traffic.step = label = f"{number}. {change}"
            before = actions.overlaps
            gap = await self._change(deployment, how, steps[now], steps[to])
            await traffic.until(REPLIES, PATIENCE)
            overlaps = actions.overlaps - before
            refused = "" if gap is None else f"requests were refused for {gap:.1f} s, "
            self._report(
                label, f"{refused}{overlaps} turns overlapped",
                not overlaps or "stock" in (now, to),
            )  # fmt: skip
            now = to
        await traffic.stop(PATIENCE)
        histories = {name: await deployment.history(name) for name, _ in traffic.sent}
        texts = {name: said(events) for name, events in histories.items()}
        verdict, own = compare(traffic, texts), {"stock"}
        was = "stock"
        for label, kinds in verdict.items():
            to = label.split()[-1]
            if "stock" in (was, to):
                own.add(label)
            for kind, found in kinds.items():
                self._report(
                    f"{label}, {kind}", found, found.clean or self._excused(kind, label, own)
                )
            was = to
        excused = {
            (conversation, message.text)
            for (conversation, _), sent in traffic.sent.items()
            for message in sent
            if self._excused(conversation, message.step, own)
        }
        await self._events(texts, excused)

    @staticmethod
    def _excused(conversation: str, label: str, own: set[str]) -> bool:
        """Where two senders meet Rasa's own lock store, what is lost may be its doing."""
        return conversation.startswith("shared") and label in own

    async def _change(self, deployment: Deployment, how: str, old: Step, new: Step) -> float | None:
        if how == "roll":
            await deployment.roll(new)
            return None
        between = None if how == "switch" else lambda: self._copy(old, new)
        return await deployment.switch(new, between)

    async def _copy(self, old: Step, new: Step) -> None:
        """The command of the guide, in Rasa's environment."""
        files = [self._folder / f"{name}.yml" for name in ("from", "to")]
        for file, step in zip(files, (old, new)):  # noqa: B905  # two of each
            step.write(file)
        python = str(self._command[0].with_name("python"))
        words = [python, "-m", "ticketlock.rasa", "--endpoints", str(files[0])]
        process = await asyncio.create_subprocess_exec(
            *words, "--to", str(files[1]), env=environ(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        good = process.returncode == 0
        self._report("back", (out if good else out + err).decode().strip()[-1000:], good)

    async def _events(self, texts: dict[str, list[str]], excused: set[tuple[str, str]]) -> None:
        """The broker has each message of the histories, in order; some may come again."""
        wanted = {
            name: [text for text in all_ if (name, text) not in excused]
            for name, all_ in texts.items()
        }
        for _ in range(40):
            found: dict[str, list[str]] = {name: [] for name in texts}
            for event in await asyncio.to_thread(self._backends.broker.read, 1):
                if event["sender_id"] in found and event["event"] == "user":
                    found[event["sender_id"]].append(str(event["text"]))
            once = {
                name: [text for text in dict.fromkeys(all_) if (name, text) not in excused]
                for name, all_ in found.items()
            }
            if all(set(once[name]) >= set(all_) for name, all_ in wanted.items()):
                break
            await asyncio.sleep(1)
        for name, all_ in wanted.items():
            missing = [text for text in all_ if text not in once[name]]
            good = once[name] == list(dict.fromkeys(all_))
            if not good:
                self._report(f"events of {name}", f"missing {missing}, or out of order", False)
        again = sum(len(all_) - len(set(all_)) for all_ in found.values())
        count = sum(map(len, wanted.values()))
        self._report(
            "events at the broker", f"{count} messages, in order; {again} came again", True
        )

    def _report(self, name: str, found: Any, good: bool) -> None:
        self._failed += not good
        print(f"  {name}: {found}{'' if good else '   FAILED'}", flush=True)


async def follow(name: str, command: tuple[Path, Path]) -> int:
    """Run a plan; returns how many checks failed."""
    with tempfile.TemporaryDirectory() as folder, MIGRATIONS[name]() as backends:
        return await Migration(backends, command, Path(folder)).run()
