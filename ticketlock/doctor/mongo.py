"""MongoDB: its form, and what a write waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from ..aio.loop_time import within_loop_time
from ..settings.section import Section
from . import tls
from .finding import Finding, fault
from .visit import Visit

CONCERN = fault(
    "mongo-write-concern", "warning",
    "If the primary fails before another member has a turn, that turn is lost although it was answered, and an "
    "older fence counts again.",
    "https://www.mongodb.com/docs/manual/reference/write-concern/",
)  # fmt: skip

ALONE = fault(
    "mongo-alone", "note",
    "No other member can take over. Turns wait until this one is back, and histories are lost if its disk is.",
    "https://www.mongodb.com/docs/manual/replication/",
)  # fmt: skip


async def visit(section: str, values: Mapping[str, Any], where: str, timeout: float) -> Visit:
    """Look at a deployment. Of one that does not answer only what its settings say is judged."""
    databases: Any = import_module("ticketlock.stores.mongo.database")
    keys = Section(values, where)
    database = databases.Database(keys)
    found = Visit(f"MongoDB at {database.place}", (section,))
    found.findings += tls.of_mongo(section, keys.place()[1] or "")
    try:
        client = database.current.database.client
        found.findings += concern(client.write_concern.document)
        try:
            hello = await within_loop_time(timeout, client.admin.command("hello"))
        except (import_module("pymongo.errors").PyMongoError, asyncio.TimeoutError):
            return found  # the section's own check says why
        found.seen = (
            "mongos" if hello.get("msg") == "isdbgrid" else hello.get("setName", "standalone")
        )
        found.findings += alone(hello)
    finally:
        await database.close()
    return found


def concern(document: Mapping[str, Any]) -> Iterator[Finding]:
    """A write does not wait for a majority, or for the journal. Source: options in the URL."""
    w = document.get("w", "majority")
    weak = [f"w={w}"] if w != "majority" and not (isinstance(w, int) and w > 1) else []
    weak += ["journal=false"] if document.get("j") is False else []
    if weak:
        yield CONCERN.found(
            f"the url says {', '.join(weak)}", "remove that: the default is w=majority"
        )


def alone(hello: Mapping[str, Any]) -> Iterator[Finding]:
    """One server, or a replica set of one member. Source: the answer to hello."""
    members = [*hello.get("hosts", ()), *hello.get("passives", ())]
    if len(members) < 2 and hello.get("msg") != "isdbgrid":
        form = "a replica set of one member" if members else "a standalone server"
        yield ALONE.found(f"it is {form}", "run a replica set of three members")
