"""`ticketlock events`: the group; a file has one command, or those that share their options."""

from __future__ import annotations

from typing import Any

from . import consume as events_consume
from . import export as events_export
from . import outbox as events_outbox


def add(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    events = commands.add_parser(
        "events", help="published events: consume, export, count those that wait"
    )
    actions = events.add_subparsers(metavar="ACTION", required=True)
    for part in (events_consume, events_export, events_outbox):
        part.add(actions)
