"""The composed deployment, where Docker answers: built, started, spoken to, and taken down."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from in_containers import docker_answers

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
PROJECT = f"ticketlock-test-{os.getpid()}"
#: The secrets that env.example asks to change.
SECRETS = (
    "REDIS_PASSWORD", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "TICKETLOCK_CHANNEL_TOKEN",
    "TICKETLOCK_AUTH_TOKEN", "TICKETLOCK_ADMIN_TOKEN",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # images are fetched and built
    pytest.mark.skipif(not docker_answers(), reason="Docker does not answer"),
]


def compose(environment: dict[str, str], *words: str) -> None:
    command = ["docker", "compose", "--project-name", PROJECT, "--file", "compose.yaml", *words]
    done = subprocess.run(
        command,
        cwd=DEPLOY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["rabbit", "kafka"])
def deployment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    kafka = request.param == "kafka"
    environment = {name: secrets.token_hex(8) for name in SECRETS}
    environment |= {"COMPOSE_PROFILES": request.param, "REPLICAS": "3"}
    environment |= {"ENDPOINTS": "endpoints.kafka.yml" if kafka else "endpoints.yml"}
    try:
        compose(environment, "up", "--build", "--detach", "--wait")
        yield environment
    finally:
        compose(environment, "down", "--volumes", "--timeout", "5")


def test_it_answers(deployment: dict[str, str]) -> None:
    """A message and its duplicate, through nginx, get the same reply."""
    body = json.dumps({"sender": "a", "message": "hello", "message_id": "1"}).encode()
    headers = {"content-type": "application/json"}
    headers["authorization"] = f"Bearer {deployment['TICKETLOCK_CHANNEL_TOKEN']}"
    replies = []
    for _ in range(2):
        request = Request("http://127.0.0.1:8080/webhooks/rest/webhook", body, headers)
        with urlopen(request, timeout=60) as answer:
            replies.append(json.loads(answer.read()))
    assert replies == [[{"recipient_id": "a", "text": "hello"}]] * 2
