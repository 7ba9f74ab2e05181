"""`ticketlock events export`: the history of a tracker store, published to an event broker."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ...aio.signals import Interrupted, interruptible
from ...endpoints.export import open_export
from ...errors import ConfigurationError, TicketLockError
from ...progress import Bar
from ...publishing.export.export import BATCH_SIZE, PATIENCE, EventExport
from ...publishing.export.options import ExportOptions, ExportResult, NothingToExport
from ...publishing.export.state import StateFile
from ..common import ENDPOINTS, EXIT_FAILED, EXIT_OK, positive


def add(actions: Any) -> None:
    """Add the command to the actions of `ticketlock events`."""
    parser = actions.add_parser(
        "export", help="publish histories of the tracker store to the event broker"
    )
    parser.set_defaults(command=_export)
    option = parser.add_argument
    option(
        "--endpoints", type=Path, default=ENDPOINTS, metavar="FILE",
        help="file with the sections tracker_store and event_broker (%(default)s)",
    )  # fmt: skip
    option(
        "--minimum-timestamp", type=float, metavar="SECONDS", help="only events from this time on"
    )
    option(
        "--maximum-timestamp", type=float, metavar="SECONDS", help="only events before this time"
    )
    option(
        "--offset-timestamps-by-seconds", type=int, default=0, metavar="SECONDS",
        help="add this to the published timestamps",
    )  # fmt: skip
    option(
        "--conversation-ids",
        metavar="ID,ID",
        help="only these conversations; spaces around the ids are ignored",
    )
    option(
        "--conversation-id", action="append", metavar="ID",
        help="only this conversation, with the id as given; may be repeated",
    )  # fmt: skip
    option(
        "--state", type=Path, metavar="FILE",
        help="file that keeps the position (endpoints.export.json for endpoints.yml)",
    )  # fmt: skip
    option("--resume", action="store_true", help="continue the export of that file")
    option(
        "--batch-size", type=positive, default=BATCH_SIZE, metavar="EVENTS",
        help="events sent at once; a crash repeats at most this many (%(default)s)",
    )  # fmt: skip
    option(
        "--patience", type=_seconds, default=PATIENCE, metavar="SECONDS",
        help="give up when the broker has confirmed nothing for this long (%(default)g)",
    )  # fmt: skip
    option("--json", action="store_true", help="print one JSON object")


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number


_seconds.__name__ = "number"  # argparse shows it: invalid number value


def _options(args: argparse.Namespace) -> ExportOptions:
    ids = None
    if args.conversation_ids is not None or args.conversation_id is not None:
        listed = (name.strip() for name in (args.conversation_ids or "").split(","))
        ids = frozenset([*filter(None, listed), *(args.conversation_id or ())])
        if not ids:
            raise ConfigurationError("--conversation-ids: no id is given")
    return ExportOptions(
        args.minimum_timestamp, args.maximum_timestamp, args.offset_timestamps_by_seconds, ids
    )


def _export(args: argparse.Namespace) -> int:
    options = _options(args)
    path = args.state or Path(f"{args.endpoints.stem}.export.json")
    started: list[EventExport] = []  # empty until the export has started

    async def work() -> None:
        with Bar() as bar:
            bar.phase("conversations")
            async with open_export(
                args.endpoints, options, state=StateFile(path, resume=args.resume),
                batch_size=args.batch_size, patience=args.patience, progress=bar.show, say=bar.say,
            ) as export:  # fmt: skip
                started.append(export)
                await export.run()

    try:
        asyncio.run(interruptible(work()))
    except NothingToExport as error:
        print(f"ticketlock: {error}", file=sys.stderr)
        return _print(args, started[0].result, str(error))
    except (TicketLockError, Interrupted) as error:
        if started:
            _print(args, started[0].result, str(error))
        if started and started[0].resumable:
            print(f"ticketlock: {path} has the position; --resume continues", file=sys.stderr)
        raise
    return _print(args, started[0].result)


def _print(args: argparse.Namespace, result: ExportResult, error: str | None = None) -> int:
    """Print the result; returns the exit status."""
    if args.json:
        print(json.dumps({**result.as_dict(), "error": error}))
    elif error is None or result.published_total:
        text = f"published {result.published} events"
        if result.published_before:
            text += f", {result.published_total} in total with those before"
        if failed := result.failed + result.failed_before:
            text += f"; {failed} failed"
        print(text)
    good = result.complete and not result.failed and not result.failed_before
    return EXIT_OK if good else EXIT_FAILED
