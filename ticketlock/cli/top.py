"""`ticketlock top`: a table of all held conversations and their queues."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..demo.screen import require_rich, show
from ..errors import ConfigurationError, LockStoreConnectionError
from ..locks.concurrent.store import ConcurrentRedisLockStore
from ..locks.inspection import Holder, Waiting
from .common import EXIT_OK, between, positive
from .lock_stores import open_lock_store, place_options
from .locks import for_any_process, span

if TYPE_CHECKING:
    from rich.console import Group

    from ..locks.concurrent.survey import Look, Row

#: Lines of the screen without rows.
_FRAME = 6


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    top = commands.add_parser(
        "top",
        help="a live table of held conversations and who waits",
        description="A live table of the conversations that are held or waited for, the oldest "
        "first; Ctrl-C ends it. Without a terminal, or on a dumb one, it is printed once. It goes "
        "through the keys of the server in small steps, which needs the right to SCAN.",
    )
    top.set_defaults(command=_top)
    place_options(top)
    top.add_argument("--limit", type=positive, default=100, help="maximum of rows (%(default)s)")
    top.add_argument(
        "--interval", type=between(0.1, 3600), default=2.0, metavar="SECONDS",
        help="seconds between two updates (%(default)g)",
    )  # fmt: skip
    top.add_argument("--json", action="store_true", help="print one JSON object, once")


def _top(args: argparse.Namespace) -> int:
    if not args.json:
        require_rich()
    store = open_lock_store(args)
    if not isinstance(store, ConcurrentRedisLockStore):
        raise ConfigurationError(
            f"top is for lock stores of the type concurrent_redis, not {type(store).__name__}: "
            "look at one conversation with ticketlock inspect"
        )
    live = not args.json and is_redrawn()
    try:
        asyncio.run(_watch(args, store) if live else _once(args, store))
    except KeyboardInterrupt:
        if not live:
            raise
    return EXIT_OK


def is_redrawn() -> bool:
    """Whether standard output is a terminal on which a table can be drawn over the one before."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


async def _once(args: argparse.Namespace, store: ConcurrentRedisLockStore) -> None:
    from ..locks.concurrent.survey import Survey  # redis-py

    async with store:
        survey = Survey(store)
        try:
            while not (look := await survey.look(args.limit)).complete:
                continue
        finally:
            await survey.close()
    if args.json:
        print(json.dumps(as_json(look)))
    else:
        show(table(look, store.settings.address))


async def _watch(args: argparse.Namespace, store: ConcurrentRedisLockStore) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from ..locks.concurrent.survey import Survey

    console = Console()
    address = store.settings.address
    async with store:
        survey = Survey(store)
        shown: Any = Text(f"looking through the locks of {address}")
        with Live(shown, console=console, screen=True, auto_refresh=False) as live:
            try:
                while True:
                    limit = max(1, min(args.limit, console.height - _FRAME))
                    try:
                        shown = table(await survey.look(limit), address)
                    except LockStoreConnectionError as error:
                        if survey.untried:
                            raise
                        shown = Text(f"{error}\n\ntrying again")
                    live.update(shown, refresh=True)
                    await asyncio.sleep(args.interval)
            finally:
                await survey.close()


def as_json(look: Look) -> dict[str, Any]:
    """The documented object of `ticketlock top --json`."""
    return {
        "conversations": look.conversations,
        "looked_at": look.looked_at,
        "held": look.held,
        "waiting": look.waiting,
        "complete": look.complete,
        "shown": len(look.rows),
        "rows": [{"age": round(row.age, 3), **asdict(row.state)} for row in look.rows],
    }


def table(look: Look, address: str) -> Group:
    """The table; ids and labels are quoted, so that they cannot disturb the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    moment = time.strftime("%H:%M:%S")
    lines = [Text(f"{look.held} held, {look.waiting} waiting; Redis at {address}, {moment}")]
    if look.rows:
        made = Table(expand=True, box=SIMPLE_HEAD)
        for title in ("conversation", "held by", "for", "waiting", "first of them", "for"):
            if title in ("for", "waiting"):
                made.add_column(title, justify="right", no_wrap=True)
            else:  # cut on narrow screens
                made.add_column(title, ratio=1, no_wrap=True)
        for row in look.rows:
            made.add_row(*(Text(text) for text in _cells(row)), style=_style(row))
        lines.append(made)  # type: ignore[arg-type]  # both can be shown
    lines.append(Text(_remarks(look)))
    return Group(*lines)


def _cells(row: Row) -> list[str]:
    state = row.state
    holder = state.holder
    cells = [_quoted(state.conversation_id)]
    if holder is None:
        cells += ["none: the lease has run out", ""]
    else:
        cells += [_who(holder), span(holder.held_for)]
    for first in state.waiting[:1]:
        cells += [str(state.waiting_count), _who(first), span(first.waiting_for)]
    return cells


def _who(ticket: Holder | Waiting) -> str:
    if for_any_process(ticket):
        return f"message {ticket.label!r}"
    name = _quoted(f"{ticket.host}:{ticket.process}") if ticket.host else "unknown"
    return f"{name} {ticket.label!r}" if ticket.label else name


def _style(row: Row) -> str:
    return "red" if row.age >= 30 else "yellow" if row.age >= 5 else ""


def _remarks(look: Look) -> str:
    if not look.rows:
        said = "no conversation is held"
    elif len(look.rows) < look.conversations:
        said = f"the {len(look.rows)} oldest of {look.conversations}"
        if look.looked_at < look.conversations:
            said += f"; only the {look.looked_at} held for longest are counted"
    else:
        said = f"all {look.conversations}"
    return said if look.complete else f"{said} so far, after about {look.keys} keys"


def _quoted(text: str) -> str:
    return text if text.isprintable() else ascii(text)
