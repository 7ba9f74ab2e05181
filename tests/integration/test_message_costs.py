"""What a message to the bot server creates, as counts that do not depend on the machine."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ticketlock import Conversations
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Settings, create_app

#: The turn, which outlives its request; the bot, which a later message may cancel. The ticket of a free
#: conversation has its turn at once, and needs none.
TASKS = 2
#: The body of the request. The ends of turns and of requests, and replies that other processes may hear,
#: have one for all of them.
TIMERS = 1
#: Before Python 3.11 the body is read in a task.
BODY = sys.version_info < (3, 11)


def counted(loop: Any, seen: Counter[str]) -> None:
    """Count what is created in an event loop from now on."""

    def count(name: str) -> None:
        create: Callable[..., Any] = getattr(loop, name)

        def created(*args: Any, **options: Any) -> Any:
            seen[name] += 1
            return create(*args, **options)

        setattr(loop, name, created)

    for name in ("create_task", "call_at", "create_future"):
        count(name)


async def post(app: Any, text: str) -> None:
    """A message to the REST channel, as a server of ASGI hands it to the application."""
    body = json.dumps({"sender": "anna", "message": text}).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    statuses = []

    async def receive() -> dict[str, Any]:
        return incoming.pop()

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status"))

    path = "/webhooks/rest/webhook"
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path,
        "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"localhost")], "client": None, "server": None,
    }  # fmt: skip
    await app(scope, receive, send)
    assert statuses[0] == 200


async def costs(conversations: Conversations) -> Counter[str]:
    """The least that one of some messages creates: others come beside what runs once a second."""
    seen: Counter[str] = Counter()
    async with conversations:
        app = create_app(conversations, settings=Settings())
        for number in range(5):
            await post(app, f"hello {number}")
        counted(asyncio.get_running_loop(), seen)
        each = []
        for number in range(10):
            seen.clear()
            await post(app, f"hello {number}")
            each.append(Counter(seen))
    return min(each, key=lambda one: sum(one.values()))


async def test_in_memory() -> None:
    """The tracker store has no task, because it never waits."""
    found = await costs(Conversations())
    assert found["create_task"] == TASKS + BODY
    assert found["call_at"] == TIMERS


@pytest.mark.parametrize("tracker", ["memory", "redis"])
async def test_on_redis(redis_server: EmbeddedRedis, tracker: str) -> None:
    """Four futures are those of commands, with the tracker store on Redis, whose write has a task: it goes to
    its end. A claim is one command, which does no harm if its caller is gone.
    """
    place = urlsplit(redis_server.url)
    history = {"type": "redis", "url": place.hostname, "port": place.port, "key_prefix": "costs"}
    locks = {"type": "concurrent_redis", "url": redis_server.url, "key_prefix": f"costs{tracker}"}
    found = await costs(Conversations(locks, history if tracker == "redis" else None))
    assert found["create_task"] == TASKS + BODY + (tracker == "redis")
    assert found["call_at"] == TIMERS
    assert found["create_future"] == (8 if tracker == "redis" else 5) + BODY


async def test_on_sqlite(tmp_path: Path) -> None:
    """As in memory, with a task and a time limit of the claim, and of the write."""
    found = await costs(Conversations(None, {"type": "sql", "db": str(tmp_path / "bot.db")}))
    assert found["create_task"] == TASKS + 2 + 3 * BODY  # without `asyncio.timeout` each has one
    assert found["call_at"] == TIMERS + 2
