"""What the server keeps over a restart."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, fault
from .server import Server, setting

PERSISTENCE = fault(
    "redis-persistence", "warning",
    "A restart loses the accepted messages that wait, reminders, and the order of waiting "
    "conversations since the last snapshot. Fences grow without it.",
    "docs/crashes.md, docs/inbox.md",
)  # fmt: skip

HISTORIES = fault(
    "redis-histories-in-memory", "error",
    "The tracker store is there: a restart loses all histories.",
    "docs/crashes.md",
)  # fmt: skip

FSYNC = fault(
    "redis-appendfsync", "warning",
    "The operating system decides when to write to the disk, about every 30 seconds. A power cut loses what "
    "was acknowledged since the last write.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/",
)  # fmt: skip

NOT_SAVED = fault(
    "redis-save-failed", "error",
    "The server refuses writes until a save succeeds (MISCONF): no turn begins. Where "
    "`stop-writes-on-bgsave-error` is off, a restart loses what it could not save.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/",
)  # fmt: skip


def persistence(server: Server, histories: bool) -> Iterator[Finding]:
    """Nothing, or not all, is kept over a restart.

    Source: a run of killed servers, 2026-11-26: a restart without `appendonly` lost the accepted messages that waited.
    """
    if server.info.get("aof_enabled") != "0" and server.config.get("appendonly") != "no":
        return
    snapshots = server.config.get("save")
    turn_on = setting("appendonly yes")
    if histories and snapshots == "":
        yield HISTORIES.found("appendonly is no, and save is empty", turn_on)
        return
    kept = (
        "it makes no snapshots either" if not snapshots else f"snapshots alone (save {snapshots!r})"
    )
    if snapshots is None:
        kept = "the user may not ask whether there are snapshots (CONFIG GET save)"
    yield PERSISTENCE.found(f"appendonly is no: {kept}", turn_on)


def synced(server: Server) -> Iterator[Finding]:
    """The log of writes is not forced to the disk. Source: Redis' page on persistence."""
    if server.config.get("appendonly") == "yes" and server.config.get("appendfsync") == "no":
        yield FSYNC.found("appendfsync is no", setting("appendfsync everysec"))


def saved(server: Server) -> Iterator[Finding]:
    """The last save failed. Source: INFO persistence."""
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
        if server.info.get(name, "ok") != "ok"
    ]
    if failed:
        yield NOT_SAVED.found(
            f"{', '.join(failed)}: err",
            "see the server's log: most often the disk is full, or its folder is not writable; "
            "then BGSAVE",
        )
