"""Celery: a task's error is its caller's error, and locks of the parent work in its forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ticketlock import LockLost, LockTimeout, QueueFull, StaleFence, TicketLockError
from ticketlock.errors import DuplicateMessage, LockStoreConnectionError
from ticketlock.redis.embedded import EmbeddedRedis

TESTS = Path(__file__).parent.parent

ERRORS: list[TicketLockError] = [
    LockTimeout("c", 1.5, 2, "web-1:17", 12.25),
    LockLost("c", "its lease ran out"),
    QueueFull("c", 7),
    DuplicateMessage("c", "message 6", "the reply"),
    StaleFence("c", 5, 6),
    LockStoreConnectionError("the server is away"),
]


@pytest.mark.parametrize("results", ["json", "pickle"])
def test_errors_reach_the_caller(own_redis: EmbeddedRedis, results: str) -> None:
    """With their class, attributes and text, in both formats that Celery has for results."""
    environment = {
        **os.environ,
        "TICKETLOCK_TEST_REDIS": own_redis.url,
        "TICKETLOCK_TEST_FORMAT": results,
        "TICKETLOCK_TEST_ERRORS": json.dumps([[type(e).__name__, *e.args] for e in ERRORS]),
        "C_FORCE_ROOT": "yes",
    }
    words = ["-A", "servers.celery_app", "worker", "--concurrency=2", "--loglevel=ERROR"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", *words, "--without-gossip", "--without-mingle"],
        cwd=TESTS,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        client = subprocess.run(
            [sys.executable, "-m", "servers.celery_app"],
            cwd=TESTS,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        worker.terminate()
        assert worker.wait(60) == 0
    assert client.returncode == 0, client.stderr
    *found, real, number = [json.loads(line) for line in client.stdout.splitlines()]
    assert found == [[type(e).__name__, list(e.args), str(e)] for e in ERRORS]
    assert real[0] == "LockTimeout"
    assert real[1][0] == "held"
    assert number == 1
