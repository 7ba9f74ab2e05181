"""Bells in a Redis Cluster: whether the user of the locks may ring them on one node alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from redis.crc import key_slot
from redis.exceptions import NoPermissionError, ResponseError

from ...locks.concurrent.scripts import Keys
from ...redis.rights import SHARDED_COMMANDS
from ..finding import Finding, fault
from .deployment import Use
from .rights import may_listen
from .server import Server

REPEATED = fault(
    "cluster-bells", "warning",
    "All nodes repeat each bell to each other, and a process hears it from each: 200 copies for 100 hand-offs "
    "on 3 masters, 1,100 on 12, where the nodes take 1.9 times and the processes 1.4 times the processor time.",
    "docs/guides/redis.md",
)  # fmt: skip


async def repeated(server: Server, use: Use, owns: Callable[[int], bool]) -> AsyncIterator[Finding]:
    """The user may not listen to sharded channels, or not ring there. Before Redis 7 there are none.

    Source: the answers to SPUBLISH and SSUBSCRIBE, on a channel that nothing else uses.

    Args:
        server: connected as the user of the lock store; a master.
        owns: whether it has a slot.
    """
    keys = Keys(use.settings)
    channels = (keys.bell_of("doctor", str(tag)) for tag in range(1000))
    channel = next((one for one in channels if owns(key_slot(one.encode()))), None)
    if channel is None:
        return  # it owns no slots
    refused = []
    try:
        await server.ask("SPUBLISH", channel, "")
    except NoPermissionError:
        refused.append("spublish")
    except ResponseError as error:
        if "unknown command" in str(error).lower():
            return
    if not await may_listen(server, "SSUBSCRIBE", channel):
        refused.insert(0, "ssubscribe")
    if refused:
        user = use.settings.username or "default"
        yield REPEATED.found(
            f"{use.section}: user {user} may not run {', '.join(refused)} on the channels of bells",
            f"ACL SETUSER {user} {SHARDED_COMMANDS}\ntype it in redis-cli on each node, as an administrator; "
            "then ACL SAVE, or CONFIG REWRITE where no aclfile is set, keeps it",
        )
