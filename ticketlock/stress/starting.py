"""What sets of servers share: waiting for what they come to, their version, their end."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache

from ..errors import LockStoreConnectionError
from ..redis.embedded import EmbeddedRedis, server_binary


class ServersFailed(LockStoreConnectionError):
    """Servers that were started do not come to what they should be."""


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for something. Raises ServersFailed."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ServersFailed(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


@cache
def version_of(binary: str | None) -> tuple[int, ...]:
    """The version of a server program, as it says itself; that of `server_binary` if None."""
    words = [binary or server_binary(), "--version"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise ServersFailed(f"{words[0]} is no Redis or Valkey: it says {said.strip()!r}")
    return tuple(map(int, found.groups()))


def ended(servers: Sequence[EmbeddedRedis]) -> None:
    """End them, also those that were stopped."""
    for server in servers:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)  # it may have been stopped
        server.__exit__()
