"""Which node of a Redis Cluster owns which slot, as the nodes answer it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from redis.crc import key_slot

from .text import decoded

Address = tuple[str, int]

#: Slots of a cluster.
SLOTS = 16384


@lru_cache(4096)  # a conversation is asked about several times in each turn
def slot_of(key: str | bytes) -> int:
    """The slot of a key."""
    return key_slot(key if isinstance(key, bytes) else key.encode())


def owners(ranges: list[Any], asked: str) -> list[Address | None]:
    """The owner of each slot, from the answer to CLUSTER SLOTS.

    Args:
        asked: the host of the node that answered; used where the answer names none.
    """
    found: list[Address | None] = [None] * SLOTS
    for low, up, owner, *_ in ranges:
        address = _host(owner, asked), int(owner[1])
        found[low : up + 1] = [address] * (up + 1 - low)
    return found


def _host(owner: list[Any], asked: str) -> str:
    host = decoded(owner[0])
    if host == "?":  # hostnames are preferred, and this node has none: look for its address
        more = owner[3] if len(owner) > 3 else []
        named = dict(zip(more[::2], more[1::2], strict=False)) if isinstance(more, list) else more
        host = decoded({decoded(key): value for key, value in named.items()}.get("ip"))
    return host or asked


def redirect(line: str, asked: str) -> Address:
    """The address in `<slot> <host>:<port>`, which follows MOVED and ASK."""
    host, _, port = line.split()[1].rpartition(":")
    host = "" if host == "?" else host.strip("[]")
    return host or asked, int(port)
