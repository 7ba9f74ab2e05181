"""The processes: nginx, replicas, Redis, PostgreSQL, RabbitMQ or Kafka, the event service.

They run on the files of docs/deploy: what is tested is what is deployed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import kafka_server, postgres, rabbitmq
from servers.consumers import Consumer
from servers.nginx import DEPLOY, nginx
from servers.replicas import Replica

from ticketlock.redis.embedded import EmbeddedRedis

from .actions import ActionProcess

REDIS_PASSWORD = "p@ss w:o/r%d"
CHANNEL_TOKEN = "what senders have"
#: The topic that endpoints.kafka.yml names, and its partitions.
TOPIC, PARTITIONS = "ticketlock_events", 4


@dataclass
class Topology:
    """What runs.

    Attributes:
        url: nginx, for channels.
        tracker, events: sections of the two databases.
        records: the folder in which the bots record their turns.
        workers: replicas without webhooks.
        redis: the server of the locks.
        actions: the action server, which the bots call; None: they call none.
        before: the version that everything begins with, a folder of `versions`; None: this
            checkout, and no other one.
    """

    url: str
    replicas: list[Replica]
    endpoints: Path
    tracker: dict[str, Any]
    events: dict[str, Any]
    records: Path
    before: Path | None
    redis: EmbeddedRedis
    workers: Sequence[Replica] = ()
    actions: ActionProcess | None = None
    consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self.start_consumer(self.before)

    def start_consumer(self, version: Path | None) -> None:
        """Start the event service, or another process of it."""
        self.consumer = Consumer(self.endpoints, version=version)

    def other(self, version: Path | None) -> Path | None:
        """What follows a version in a roll."""
        return self.before if version is None else None

    def stop_consumer(self) -> dict[str, int]:
        """End the event service as an operator does; what it counted."""
        end = time.monotonic() + 60
        while (
            "INFO reading from" not in self.consumer.log
        ):  # before that it does not listen to signals
            assert time.monotonic() < end, self.consumer.log
            time.sleep(0.05)
        return self.consumer.stop()


@contextmanager
def topology(
    folder: Path,
    broker: str,
    before: Path | None = None,
    replicas: int = 3,
    *,
    redis_options: Sequence[str] = (),
    more: str = "",
    acting: bool = False,
) -> Iterator[Topology]:
    """Start everything, with the version `before`; broker is `rabbit` or `kafka`.

    Args:
        redis_options: more words of the command that starts Redis.
        more: more lines of the `endpoints.yml`, the last section of which is `server`.
        acting: with a worker, and an action server; the bots call it, and schedule reminders.
    """
    with ExitStack() as stack:
        locks = EmbeddedRedis(["--requirepass", REDIS_PASSWORD, *redis_options])
        stack.enter_context(locks)
        variables, database = _servers(stack, broker, locks.port)
        stack.enter_context(_environment(variables))
        name = "endpoints.yml" if broker == "rabbit" else "endpoints.kafka.yml"
        endpoints = folder / "endpoints.yml"
        deploy = DEPLOY if before is None else before / "deploy"  # what both versions read
        actions = ActionProcess(folder) if acting else None
        if actions is not None:
            stack.callback(actions.kill)
            stack.enter_context(_environment({"ACTION_SERVER": actions.url}))
        endpoints.write_text((deploy / name).read_text() + more)
        records = folder / "records"
        records.mkdir()
        (folder / "e2e_bot.py").write_text(Path(__file__).with_name("bot.py").read_text())
        (folder / "acting_bot.py").write_text(Path(__file__).with_name("acting_bot.py").read_text())
        words = ("--bot", "acting_bot:bot" if acting else "e2e_bot:bot")
        started = [Replica(endpoints, *words, version=before) for _ in range(replicas)]
        workers = [Replica(endpoints, *words, command="worker")] if acting else []
        stack.callback(lambda: [replica.kill() for replica in (*started, *workers)])
        front = stack.enter_context(nginx([replica.port for replica in started]))
        found = Topology(
            front.channels, started, endpoints, {**database, "db": "tracker"},
            {**database, "db": "events"}, records, before, locks,
            workers, actions,
        )  # fmt: skip
        stack.callback(lambda: found.consumer.__exit__())
        for replica in (*started, *workers):
            replica.wait_ready()
        yield found


def _servers(
    stack: ExitStack, broker: str, redis_port: int
) -> tuple[dict[str, str], dict[str, Any]]:
    """The variables of the endpoints.yml, and where PostgreSQL is."""
    database = stack.enter_context(postgres.server())
    variables = {
        "REDIS_HOST": f"127.0.0.1:{redis_port}",
        "REDIS_PASSWORD": REDIS_PASSWORD,
        "POSTGRES_HOST": f"{database['url']}:{database['port']}",
        "POSTGRES_USER": database["username"],
        "POSTGRES_PASSWORD": database["password"],
        "TICKETLOCK_ADMIN_TOKEN": "what operators have",
        "TICKETLOCK_AUTH_TOKEN": "what readers have",
        "TICKETLOCK_CHANNEL_TOKEN": CHANNEL_TOKEN,
        "SQL_POOL_SIZE": "8",  # three replicas and the event service share 100 connections
        "SQL_MAX_OVERFLOW": "4",
    }
    if broker == "rabbit":
        rabbit = stack.enter_context(rabbitmq.RabbitMQ())
        variables["RABBITMQ_HOST"] = f"127.0.0.1:{rabbit.port}"
        variables["RABBITMQ_USER"] = rabbitmq.USER
        variables["RABBITMQ_PASSWORD"] = rabbitmq.PASSWORD
    else:
        kafka = stack.enter_context(kafka_server.Kafka())
        kafka_server.make_topic(kafka.bootstrap, TOPIC, PARTITIONS)
        variables["KAFKA_BOOTSTRAP"] = kafka.bootstrap
    return variables, {"dialect": "postgresql", **database}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Variables for all processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
