"""What sets of servers share: waiting for what they come to, their version, their end."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import cache, partial
from typing import TypeVar

from ..errors import ConfigurationError, LockStoreConnectionError
from ..redis.embedded import EmbeddedRedis, server_binary

T = TypeVar("T")


class ServersFailed(LockStoreConnectionError):
    """Servers that were started do not come to what they should be."""


#: Set when nobody wants any more what a thread waits for.
_given_up: ContextVar[threading.Event] = ContextVar("given_up")


def until(condition: Callable[[], T], what: str, seconds: float = 60) -> T:
    """Wait for something, and return it. Raises ServersFailed, also where `in_thread` is cancelled."""
    end, given_up = time.monotonic() + seconds, _given_up.get(threading.Event())
    while not (found := condition()):
        if time.monotonic() > end:
            raise ServersFailed(f"not within {seconds:g} s: {what}")
        if given_up.wait(0.05):
            raise ServersFailed(f"given up: {what}")
    return found


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """Call something in a thread. A cancellation lets `until` in it give up, and waits for its end:
    what it has begun is there then, and can be ended."""
    given_up, context = threading.Event(), copy_context()
    context.run(_given_up.set, given_up)
    ended = asyncio.get_running_loop().run_in_executor(None, partial(context.run, call, *args))
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        given_up.set()
        await asyncio.wait([ended])
        if not ended.cancelled():
            ended.exception()  # marked as read: it was given up
        raise


@cache
def version_of(binary: str | None) -> tuple[int, ...]:
    """The version of a server program, as it says itself; that of `server_binary` if None.

    Raises ConfigurationError if it cannot be run, or is another program.
    """
    words = [binary or server_binary(), "--version"]
    try:
        said = subprocess.run(words, check=False, capture_output=True, text=True).stdout
    except OSError as error:
        raise ConfigurationError(f"--server-program: {words[0]}: {error.strerror}") from error
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise ConfigurationError(f"--server-program: {words[0]} is not a Redis or Valkey server")
    return tuple(map(int, found.groups()))


def ended(servers: Sequence[EmbeddedRedis]) -> None:
    """End them, also those that were stopped."""
    for server in servers:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)  # it may have been stopped
        server.__exit__()
