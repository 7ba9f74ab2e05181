"""`ticketlock inspect` and `ticketlock break`: the operator's view of a lock."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import Any

from ..locks.inspection import Holder, Inspection, Waiting
from ..server.operator.audit import Audit
from .auditing import record_of, why_option
from .common import EXIT_FAILED, EXIT_OK, positive
from .lock_stores import open_lock_store, place_options


def add(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    inspect = commands.add_parser("inspect", help="show who holds a conversation, and who waits")
    _options(inspect, _inspect)
    inspect.add_argument(
        "--limit",
        type=positive,
        default=100,
        help="maximum of waiting tickets to list (%(default)s)",
    )
    ending = commands.add_parser("break", help="end the turn that holds a conversation")
    _options(ending, _break)
    ending.add_argument("--fence", type=positive, help="only if the turn has this fence")
    why_option(ending)


def _options(command: argparse.ArgumentParser, function: object) -> None:
    command.set_defaults(command=function)
    command.add_argument("conversation", metavar="CONVERSATION", help="its id")
    place_options(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _inspect(args: argparse.Namespace) -> int:
    async def look() -> Inspection:
        async with open_lock_store(args) as store:
            return await store.inspect(args.conversation, args.limit)

    found = asyncio.run(look())
    print(json.dumps(asdict(found)) if args.json else "\n".join(describe(found)))
    return EXIT_OK


def _break(args: argparse.Namespace) -> int:
    async def end() -> tuple[Holder | None, bool]:
        async with open_lock_store(args) as store:
            audit = Audit(store, logs=False)
            return await audit.break_lock(args.conversation, args.fence, record_of("break", args))

    holder, broken = asyncio.run(end())
    if args.json:
        print(json.dumps({"broken": broken, "holder": asdict(holder) if holder else None}))
    elif broken:
        print(f"broken: {_turn(holder)}" if holder else "broken")
    elif holder:
        stale = args.fence not in (None, holder.fence)
        print(f"not broken: {'it has another fence' if stale else 'it has ended'}: {_turn(holder)}")
    else:
        print("not broken: no turn holds it")
    return EXIT_OK if broken else EXIT_FAILED


def describe(found: Inspection) -> list[str]:
    """The lines of an Inspection; ids and labels are quoted."""
    lines = [f"conversation {found.conversation_id!r}"]
    lines.append(f"  held by {_turn(found.holder)}" if found.holder else "  not held")
    if found.holder:
        lines.append(f"    its lease has {found.holder.lease:.1f} s left")
    lines.append(f"  waiting: {found.waiting_count}")
    for ticket in found.waiting:
        dead = "" if ticket.alive else ", no heartbeat: will be skipped"
        since = f"for {span(ticket.waiting_for)}"
        lines.append(f"    {_who(ticket)} {since}, ticket {ticket.number}{dead}")
    if (hidden := found.waiting_count - len(found.waiting)) > 0:
        lines.append(f"    ... and {hidden} more")
    return lines


def _turn(holder: Holder) -> str:
    since = span(holder.held_for)
    return f"{_who(holder)} for {since}, ticket {holder.number}, fence {holder.fence}"


def _who(ticket: Holder | Waiting) -> str:
    if for_any_process(ticket):
        return f"accepted message {ticket.label!r}"
    name = "unknown process"
    if ticket.host:
        name = f"host {ticket.host} process {ticket.process}"
    return f"{name} ({ticket.label!r})" if ticket.label else name


def for_any_process(ticket: Holder | Waiting) -> bool:
    """Whether it is the ticket of an accepted message, which waits for any process that serves."""
    return isinstance(ticket, Waiting) and ticket.alive and not ticket.host and bool(ticket.label)


def span(seconds: float) -> str:
    """A duration as text."""
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
