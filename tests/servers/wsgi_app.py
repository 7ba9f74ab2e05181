"""A WSGI application that takes a lock and a turn for each request, for real servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from ticketlock import ConcurrentRedisLockStore, Conversations

REDIS = os.environ["TICKETLOCK_TEST_REDIS"]
store = ConcurrentRedisLockStore(url=REDIS).sync()
conversations = Conversations(ConcurrentRedisLockStore(url=REDIS)).sync()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with the process id and the ticket number."""
    with store.lock("lock") as grant:
        with conversations.turn("turn") as turn:
            turn.add({"event": "user", "text": "hello"})
            turn.ensure_held()
        body = f"{os.getpid()} {grant.number}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
