"""What `ticketlock stress` says where it cannot do what is asked, and what it leaves then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest
import redis
from servers.stress_command import Command

from ticketlock.cli import EXIT_BAD_INPUT, EXIT_UNAVAILABLE
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.rights import grant_line
from ticketlock.redis.settings import RedisSettings

SHORT = ("--seconds", "1", "--processes", "1", "--tasks", "2", "--conversations", "2", "--yes")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def user(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """The administrator of a server whose user `bot` may log in, and nothing else."""
    with redis.Redis(port=redis_server.port, db=0, decode_responses=True) as client:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "bot", "on", ">pw", "resetchannels")
        yield client
        client.execute_command("ACL", "DELUSER", "bot")


def test_a_user_with_few_keys(
    command: Command, redis_server: EmbeddedRedis, user: redis.Redis
) -> None:
    """Rights for a prefix by chance would be of no use: it asks for a name, and that is enough."""
    file = command.endpoints(f"redis://bot:pw@127.0.0.1:{redis_server.port}/0")
    _, err = command.run(*SHORT, "--endpoints", file, status=EXIT_UNAVAILABLE)
    assert (
        "the next run would have another prefix: choose one with --key-prefix (letters and digits)"
        in err
    )
    named = ("--endpoints", file, "--key-prefix", "mine")
    _, err = command.run(*SHORT, *named, status=EXIT_UNAVAILABLE)
    assert "another prefix" not in err
    line = err[err.index("ACL SETUSER") : err.index(" (")]
    settings = RedisSettings.of({"username": "bot", "password": "pw", "key_prefix": "mine"})
    assert line == grant_line(settings).replace(" +select", "")
    user.execute_command(*line.split())
    user.execute_command("ACL", "SETUSER", "bot", "on")
    assert command.values(*SHORT, *named)["ok"]
    assert user.keys("*") == []


def test_messages_without_the_rights_of_histories(
    command: Command, redis_server: EmbeddedRedis, user: redis.Redis
) -> None:
    """Nothing is submitted, and no key is left."""
    settings = RedisSettings.of({"username": "bot", "password": "pw", "key_prefix": "mine"})
    user.execute_command(*grant_line(settings).split())
    file = command.endpoints(f"redis://bot:pw@127.0.0.1:{redis_server.port}/0")
    words = (*SHORT, "--endpoints", file, "--key-prefix", "mine", "--messages")
    _, err = command.run(*words, status=EXIT_UNAVAILABLE)
    assert "the keys mine:tracker:*" in err
    assert user.keys("*") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--min-replicas", "-1"),
            "--min-replicas -1 is not from 0 to 0, the replicas of a master of --topology server",
        ),
        (("--topology", "cluster", "--min-replicas", "2"), "2 is not from 0 to 1, the"),
        (("--processes", "100000"), "--processes 100000: at most 100"),
        (("--timeline", "x.pdf"), "x.pdf does not end in .html, .svg, .png"),
        (("--check", "/dev/null"), "--check: no operations in /dev/null"),
        (("--tasks", "100000"), "--tasks 100000: at most 10000"),
    ],
)
def test_numbers_that_cannot_be(command: Command, words: tuple[str, ...], said: str) -> None:
    _, err = command.run(*words, status=EXIT_BAD_INPUT)
    assert said in err


def test_a_port_that_speaks_http(command: Command) -> None:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as web:
        Thread(target=web.serve_forever).start()
        file = command.endpoints(f"redis://127.0.0.1:{web.server_port}/0")
        _, err = command.run(*SHORT, "--endpoints", file, status=EXIT_UNAVAILABLE)
        web.shutdown()
    assert "does not speak the protocol of Redis: check host and port" in err


def test_a_prefix_with_other_characters(command: Command) -> None:
    words = ("--endpoints", command.endpoints("redis://127.0.0.1:1/0"), "--key-prefix", "mine:")
    _, err = command.run(*words, status=EXIT_BAD_INPUT)
    assert "--key-prefix: 'mine:' has other characters than letters and digits" in err


def test_the_verdict_is_there_where_the_history_cannot_be_written(command: Command) -> None:
    words = (*SHORT, "--json", "--history", "/dev/full")
    out, err = command.run(*words, status=EXIT_BAD_INPUT)
    assert json.loads(out)["ok"]
    assert err == "ticketlock: --history: /dev/full: No space left on device\n"
