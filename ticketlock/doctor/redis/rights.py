"""Scripts, and the rights of each section's user, command by command."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from importlib import import_module

from redis.crc import key_slot
from redis.exceptions import MovedError, NoPermissionError, ResponseError

from ...locks.concurrent.scripts import Keys
from ...redis.rights import grant_line
from ...redis.scripts import load
from ...redis.text import decoded
from ..finding import Finding, fault
from .deployment import Use
from .server import Server

LUA = fault(
    "redis-lua", "error",
    "All operations are scripts: no turn begins.",
    "https://github.com/valkey-io/valkey/pull/2858: in Valkey 9.1 Lua is a module",
)  # fmt: skip

RIGHTS = fault(
    "redis-rights", "error",
    "A replica refuses to start a turn with such a user, because it would fail in the middle of one.",
    "docs/guides/redis.md",
)  # fmt: skip

#: Said of a line with rights. Redis refuses the whole line if a pattern in it adds nothing, and
#: forgets it with a restart.
TYPED = (
    "type it in redis-cli as an administrator, without a word that begins with ~ or & if the user has "
    "~* or &* already; then ACL SAVE, or CONFIG REWRITE where no aclfile is set, keeps it"
)


async def lua(server: Server) -> AsyncIterator[Finding]:
    """Scripts are missing or switched off. Source: the answer to EVAL."""
    try:
        await server.ask("EVAL", "return 1", 0)
    except NoPermissionError:
        return  # a missing right is another finding
    except ResponseError as error:
        if "unknown command" in str(error).lower():
            yield LUA.found(
                f"EVAL: {error}",
                "install the module (Alpine: apk add valkey-lua) and load it with loadmodule, or remove "
                "rename-command EVAL from the configuration",
            )


async def rights(
    server: Server, use: Use, owns: Callable[[int], bool] | None = None
) -> AsyncIterator[Finding]:
    """The user of a section may not run commands that turns need.

    Each is tried without an effect, on a key that nothing else uses. Source: `lua/rights.lua`.

    Args:
        server: connected as that user; a master.
        owns: in a cluster, whether the server has a slot.
    """
    keys = Keys(use.settings)
    named: Callable[[str], str]
    if use.keeps_locks:
        channel = keys.bell + "doctor"
        named = lambda tag: keys.of(f"doctor {tag}")[1]  # one line each
        line = grant_line(use.settings)
    else:
        channel = ""
        named = lambda tag: use.settings.prefixed(f"tracker:{{doctor {tag}}}:events")
        line = histories_line(use)
    tags = map(str, range(1000))
    key = next(
        (named(tag) for tag in tags if owns is None or owns(key_slot(named(tag).encode()))), None
    )
    if key is None:
        return  # it owns no slots
    refused = [name for name in await _refused(server, key, channel) if f"+{name}" in line.split()]
    if "+select" in line.split() and server.connection.db != use.settings.db:
        refused.insert(0, "select")  # `reach` was refused it
    if refused:
        user = use.settings.username or "default"
        inside = "" if "evalsha" not in refused else ", and perhaps more, which scripts would try"
        yield RIGHTS.found(
            f"{use.section}: user {user} may not run {', '.join(refused)} on its keys and channels{inside}",
            f"{line}\n{TYPED}",
        )


async def _refused(server: Server, key: str, channel: str) -> list[str]:
    """The commands that the user may not run, in order."""
    script = load("rights")
    found: list[str] = []
    for args in (("EVAL", script.source, 1, key, channel), ("SCRIPT", "LOAD", script.source),
                 ("EVALSHA", script.sha, 1, key, channel), ("SCAN", 0, "MATCH", key, "COUNT", 1),
                 ("ZSCAN", key, 0)):  # fmt: skip
        try:
            answer = await server.ask(*args)
        except NoPermissionError:
            found.append("script|load" if args[0] == "SCRIPT" else str(args[0]).lower())
        except ResponseError:
            continue  # such as NOSCRIPT after a LOAD that was refused
        else:
            if str(args[0]).startswith("EVAL"):
                found += [decoded(text).partition(":")[0] for text in answer]
    # To a channel of its own: what another node publishes comes to all of a cluster.
    if channel and not await may_listen(server, "SUBSCRIBE", f"{channel} {server.place}"):
        found.append("subscribe")
    return list(dict.fromkeys(found))


async def may_listen(server: Server, command: str, channel: str) -> bool:
    """Whether the user may listen to a channel.

    The answer to (S)SUBSCRIBE is a push, which redis-py does not return; that of TIME follows it.
    """
    await server.connection.send_command(command, channel)
    await server.connection.send_command("TIME")
    allowed = True
    while True:
        try:
            answer = await server.connection.read_response()
        except NoPermissionError as error:
            if "'time' command" in str(error):
                return allowed
            allowed = False
        except MovedError:
            continue  # the slot of the channel has left, and a right was not missing
        else:
            if len(answer) == 2:
                return allowed


def histories_commands() -> str:
    """The commands that the tracker store needs. Its backend is imported when it is used."""
    backend = import_module("ticketlock.stores.redis.client")
    return str(backend.NEEDED_COMMANDS)


def histories_line(use: Use) -> str:
    """The command that grants the user of a tracker store its rights."""
    settings = use.settings
    words = ["ACL SETUSER", settings.username or "default"]
    words += [f"~{settings.prefixed(kind)}*" for kind in ("tracker:", "tracker_outbox:")]
    words.append(histories_commands())
    if settings.deployment_mode == "cluster":
        words.append("+cluster|slots +asking")
    elif settings.db:
        words.append("+select")
    return re.sub(r"\s+", " ", " ".join(words))
