"""Keys of ours that should expire and do not."""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.exceptions import NoPermissionError

from ...locks.concurrent.scripts import Keys
from ..finding import NOT_LOOKED_AT, Finding, fault
from .deployment import Use
from .server import Server

#: Keys that are gone through at most, and in one step.
MOST, STEP = 20_000, 1000

#: Ends of the keys that live while a conversation is in use, and `idle_expiry` longer.
_EXPIRING = ("last_issued_ticket_number", "holder", "queue", "waiters", "messages", "expiries")
#: Ends of the keys for which those of their conversation stay: work that is not finished.
_STAYING = ("submitted", "deliveries")

LEAK = fault(
    "redis-leak", "warning",
    "These keys stay for ever and take memory. A program that sets or copies keys (PERSIST, RESTORE "
    "without a TTL, an old tool) has made them.",
    "docs/protocol.md: each key of a conversation expires, unless a submitted message waits",
)  # fmt: skip


async def leaks(server: Server, use: Use) -> AsyncIterator[Finding]:
    """Keys of conversations in which nothing waits have no expiry. Source: SCAN and PTTL."""
    prefix = Keys(use.settings).prefix
    cursor, seen = 0, 0
    leaked: set[str] = set()
    try:
        while True:
            args = ("SCAN", cursor, "MATCH", f"{_literal(prefix)}{{*}}:*", "COUNT", STEP)
            text, keys = await server.ask(*args)
            cursor, seen = int(text), seen + STEP
            for key in keys:
                if await _lasts(server, key):
                    leaked.add(key.decode(errors="replace"))
            if not cursor or seen >= MOST:
                break
    except NoPermissionError:
        user = use.settings.username or "default"
        yield NOT_LOOKED_AT.found(
            f"keys without expiry: user {user} may not run SCAN",
            f"ACL SETUSER {user} +scan\nrun the doctor again, and take it back with ACL SETUSER {user} -scan",
        )
        return
    if leaked:
        looked = "all" if not cursor else f"the first {seen:,}"
        first = min(leaked)
        yield LEAK.found(
            f"without expiry: {len(leaked)}, such as {first!r}, in database {use.settings.db}; {looked} keys "
            "were looked at",
            f"EXPIRE {first!r} 3600\nfor each of them, after SELECT {use.settings.db}, and after you have "
            "found what made them",
        )


async def _lasts(server: Server, key: bytes) -> bool:
    """Whether a key should expire and does not."""
    base, _, name = key.rpartition(b":")
    if name.decode(errors="replace") not in _EXPIRING or await server.ask("PTTL", key) != -1:
        return False
    for other in _STAYING:
        if await server.ask("EXISTS", base + b":" + other.encode()):
            return False
    # The work may have been finished between the two questions.
    return bool(await server.ask("PTTL", key) == -1)


def _literal(text: str) -> str:
    """A text as a pattern that matches it alone."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in text)
