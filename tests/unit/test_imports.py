"""What a process does not use, it does not import: starts are short, and so are those of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: What commands on a terminal do without.
SERVER = {"redis", "uvicorn", "starlette", "sqlalchemy", "prometheus_client"}
#: What this deployment does not name: backends, other commands, JWTs.
UNUSED = {
    "sqlalchemy", "pymongo", "boto3", "confluent_kafka", "pika", "rich", "jwt",
    "ticketlock.rasa", "ticketlock.demo", "ticketlock.cli.demo", "ticketlock.cli.config",
    "ticketlock.cli.tracker", "ticketlock.cli.events", "ticketlock.publishing.export",
}  # fmt: skip
PARSE = "from ticketlock.cli import _parser; _parser({!r})"
#: All that `ticketlock run` does before it connects to its stores.
RUN = """
from ticketlock.cli import _parser
from ticketlock.cli.deployment import prepare
from ticketlock.server.app import create_app
made = prepare(_parser("run").parse_args(["run", *{!r}]), "run")
create_app(made.conversations, made.bot, made.settings)
"""
REDIS = "lock_store: {type: concurrent_redis}\ntracker_store: {type: redis}\n"


def imported(code: str, folder: Path) -> set[str]:
    code += "\nimport sys, json; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("code", "used", "unused"),
    [
        (PARSE.format("--help"), {"ticketlock.cli.demo", "ticketlock.cli.top"}, SERVER),
        (PARSE.format("inspect"), {"ticketlock.cli.locks"}, {*SERVER, *UNUSED}),
        (PARSE.format("config"), {"ticketlock.cli.config"}, SERVER | {"ticketlock.demo"}),
        (RUN.format([]), {"uvicorn", "ticketlock.server.app"}, UNUSED | {"redis"}),
        (RUN.format(["--endpoints", "redis.yml"]), {"redis", "ticketlock.server.app"}, UNUSED),
        ("from ticketlock import ConcurrentRedisLockStore", set(), {*SERVER, *UNUSED}),
        (
            "from ticketlock import Conversations; Conversations()",
            {"ticketlock.messages"},
            {*SERVER, *UNUSED},
        ),
    ],
    ids=["help", "inspect", "config", "run", "run-on-redis", "a-lock-store", "conversations"],
)
def test_no_more_than_is_used(code: str, used: set[str], unused: set[str], tmp_path: Path) -> None:
    """Modules that are loaded, and modules that must not be."""
    (tmp_path / "redis.yml").write_text(REDIS)
    found = imported(code, tmp_path)
    assert used <= found
    assert found.isdisjoint(unused), sorted(found & unused)
