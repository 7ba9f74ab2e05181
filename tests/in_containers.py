"""Tests on servers in containers, where Docker answers.

`python in_containers.py kafka mongo -- contract -k "kafka or mongo"`: starts these servers, names
them to the tests as one names one's own (TICKETLOCK_TEST_..._URL), and runs pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

PASSWORD = "containers-only"


class Server(NamedTuple):
    """A server's image, and how it is reached once it says that it is ready.

    Attributes:
        variable: what the tests read.
        url: with `{at}`, host and port.
        ready: what its log says then.
    """

    variable: str
    image: str
    port: int
    url: str
    ready: str
    environment: dict[str, str] = {}  # noqa: RUF012  # never changed


SERVERS = {
    "postgres": Server(
        "TICKETLOCK_TEST_POSTGRES_URL", "postgres:16", 5432,
        f"postgresql://postgres:{PASSWORD}@{{at}}", "listening on IPv4",
        {"POSTGRES_PASSWORD": PASSWORD},
    ),
    "mariadb": Server(
        "TICKETLOCK_TEST_MARIADB_URL", "mysql:8", 3306, f"mysql://root:{PASSWORD}@{{at}}",
        r"port: 3306  MySQL", {"MYSQL_ROOT_PASSWORD": PASSWORD, "MYSQL_ROOT_HOST": "%"},
    ),
    "mongo": Server(
        "TICKETLOCK_TEST_MONGO_URL", "mongo:7", 27017, "mongodb://{at}", "Waiting for connections"
    ),
    "dynamo": Server(
        "TICKETLOCK_TEST_DYNAMO_URL", "amazon/dynamodb-local:2.5.2", 8000, "http://{at}",
        "Initializing DynamoDB Local",
    ),
    "rabbitmq": Server(
        "TICKETLOCK_TEST_RABBITMQ_URL", "rabbitmq:3.13", 5672, f"amqp://tester:{PASSWORD}@{{at}}",
        "Server startup complete",
        {"RABBITMQ_DEFAULT_USER": "tester", "RABBITMQ_DEFAULT_PASS": PASSWORD},
    ),
}  # fmt: skip


def started(name: str, stack: ExitStack) -> dict[str, str]:
    """Start a server; the variable that names it to the tests."""
    if name == "kafka":
        from testcontainers.kafka import KafkaContainer

        kafka = stack.enter_context(KafkaContainer("confluentinc/cp-kafka:7.6.1").with_kraft())
        return {"TICKETLOCK_TEST_KAFKA_BOOTSTRAP": kafka.get_bootstrap_server()}
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    server = SERVERS[name]
    container: Any = DockerContainer(server.image).with_exposed_ports(server.port)
    for key, value in server.environment.items():
        container.with_env(key, value)
    stack.enter_context(container)
    wait_for_logs(container, server.ready, timeout=120)
    at = f"{container.get_container_host_ip()}:{container.get_exposed_port(server.port)}"
    return {server.variable: server.url.format(at=at)}


def docker_answers() -> bool:
    """Whether there is a Docker engine."""
    try:
        words = ["docker", "info"]
        return subprocess.run(words, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main(words: list[str], answers: Callable[[], bool] = docker_answers) -> int:
    """Run it; the status of pytest, or 2 where that is not begun."""
    place = words.index("--") if "--" in words else len(words)
    names, arguments = words[:place], words[place + 1 :]
    known = [*SERVERS, "kafka"]
    if not names or not set(names) <= set(known):
        print(f"name some of: {', '.join(known)}", file=sys.stderr)
        return 2
    if not answers():
        print("Docker does not answer: see `docker info`; `make test` needs none", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        environment = {**os.environ}
        for name in names:
            environment |= started(name, stack)
        command = [sys.executable, "-m", "pytest", *arguments]
        folder = Path(__file__).parent
        return subprocess.run(command, env=environment, check=False, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
