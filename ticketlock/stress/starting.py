"""What sets of servers share: waiting for what they come to, their version, their end."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from ..errors import ConfigurationError, LockStoreConnectionError
from ..redis.embedded import EmbeddedRedis, server_binary

T = TypeVar("T")


class ServersFailed(LockStoreConnectionError):
    """Servers that were started do not come to what they should be."""


def until(condition: Callable[[], T], what: str, seconds: float = 60) -> T:
    """Wait for something, and return it. Raises ServersFailed."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise ServersFailed(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return found


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
        raise ConfigurationError(f"--server-program: {words[0]} is no Redis or Valkey")
    return tuple(map(int, found.groups()))


def ended(servers: Sequence[EmbeddedRedis]) -> None:
    """End them, also those that were stopped."""
    for server in servers:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)  # it may have been stopped
        server.__exit__()
