"""Which node of a Redis Cluster has which slot, as the nodes tell it."""

from __future__ import annotations

from typing import Any

Address = tuple[str, int]

#: How many slots a cluster has.
SLOTS = 16384


def owners(ranges: list[Any], teller: str) -> list[Address | None]:
    """The owner of each slot, out of CLUSTER SLOTS.

    Args:
        teller: the host of the node that has told; it stands for a host that is not named.
    """
    found: list[Address | None] = [None] * SLOTS
    for low, up, owner, *_ in ranges:
        address = _host(owner, teller), int(owner[1])
        found[low : up + 1] = [address] * (up + 1 - low)
    return found


def _host(owner: list[Any], teller: str) -> str:
    host = _text(owner[0])
    if host == "?":  # hostnames are preferred, and this node has none: its address may stand behind
        more = owner[3] if len(owner) > 3 else []
        named = dict(zip(more[::2], more[1::2], strict=False)) if isinstance(more, list) else more
        host = _text({_text(key): value for key, value in named.items()}.get("ip"))
    return host or teller


def place(told: str, teller: str) -> Address:
    """The address in `<slot> <host>:<port>`, which is what follows MOVED and ASK."""
    host, _, port = told.split()[1].rpartition(":")
    host = "" if host == "?" else host.strip("[]")
    return host or teller, int(port)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
