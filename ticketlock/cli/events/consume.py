"""`ticketlock events consume` and `gaps`: store published events, and list missing ones."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from ...aio.signals import ending
from ...endpoints.file import Endpoints, read_endpoints
from ...endpoints.registry import create_event_database, create_event_source, require_existing
from ...event_service.database import EventDatabase, Gap, StoreResult
from ...event_service.service import EventService
from ...event_service.settings import ServiceSettings
from ...event_service.watch import describe
from ...progress import Bar
from .. import logs
from ..common import ENDPOINTS, EXIT_FAILED, EXIT_OK, above_zero

#: Seconds between two lines of progress without a terminal.
LINE_SECONDS = 10.0


def add(actions: Any) -> None:
    """Add the commands to the group's actions."""
    consume = actions.add_parser(
        "consume",
        help="store the events of a Kafka topic or RabbitMQ queue in an SQL database",
        description="Reads from the broker of the section event_broker and stores in the "
        "database of the section event_service (default: the SQLite file events.db). Several "
        "may run at once. SIGTERM, SIGINT and SIGHUP end it after the current batch.",
    )
    _options(consume, _consume)
    consume.add_argument(
        "--until-idle", type=above_zero, metavar="SECONDS",
        help="end when no event has arrived for this long",
    )  # fmt: skip
    logs.add(consume)
    gaps = actions.add_parser("gaps", help="list missing events; exit status 1 if there are any")
    _options(gaps, _gaps)


def _options(command: argparse.ArgumentParser, function: object) -> None:
    command.set_defaults(command=function)
    command.add_argument(
        "--endpoints", type=Path, default=ENDPOINTS, metavar="FILE",
        help="file with the sections event_broker and event_service (%(default)s)",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _database(endpoints: Endpoints) -> tuple[ServiceSettings, EventDatabase]:
    where = endpoints.where("event_service")
    return create_event_database(endpoints.section("event_service"), where)


def _consume(args: argparse.Namespace) -> int:
    endpoints = read_endpoints(args.endpoints)
    settings, database = _database(endpoints)
    section, where = endpoints.section("event_broker"), endpoints.where("event_broker")
    source = create_event_source(section, settings, where)

    async def body() -> tuple[StoreResult, list[Gap]]:
        with Bar() as bar, _Log(bar, args) as progress:
            bar.phase("events stored")
            service = EventService(
                source, database, until_idle=args.until_idle, report=progress.report
            )
            loop = asyncio.get_running_loop()
            for number in ending():
                loop.add_signal_handler(number, service.stop)
            try:
                return await service.run(), await database.gaps()
            finally:
                await database.close()

    done, gaps = asyncio.run(body())
    numbers = {
        "stored": done.stored, "duplicates": done.duplicates, "rejected": done.rejected,
        "gaps": len(gaps),
    }  # fmt: skip
    if args.json:
        print(json.dumps(numbers))
    else:
        print(", ".join(f"{count} {name}" for name, count in numbers.items()))
    return EXIT_OK


class _Log(logging.Handler):
    """Prints log lines above the bar, and the progress in it; without a bar, lines only."""

    def __init__(self, bar: Bar, args: argparse.Namespace) -> None:
        super().__init__()
        self._bar = bar
        self._next = time.monotonic() + LINE_SECONDS
        self.setFormatter(logs.formatter(args))
        self._level = args.log_level.upper()

    def emit(self, record: logging.LogRecord) -> None:
        self._bar.say(self.format(record))

    def report(self, done: StoreResult) -> None:
        """Show the progress."""
        self._bar.show(done.stored)
        if not sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            logging.getLogger("ticketlock").info(
                "%d stored, %d duplicates, %d rejected",
                done.stored, done.duplicates, done.rejected,
            )  # fmt: skip

    def __enter__(self) -> _Log:
        logger = logging.getLogger("ticketlock")
        logger.addHandler(self)
        logger.setLevel(self._level)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("ticketlock").removeHandler(self)


def _gaps(args: argparse.Namespace) -> int:
    _, database = _database(read_endpoints(args.endpoints))
    require_existing(database)

    async def body() -> list[Gap]:
        async with database:
            return await database.gaps()

    found = asyncio.run(body())
    if args.json:
        print(json.dumps({"gaps": [_as_dict(gap) for gap in found]}))
    else:
        print(
            "\n".join(describe(gap) for gap in found) or f"nothing is missing in {database.address}"
        )
    return EXIT_FAILED if found else EXIT_OK


def _as_dict(gap: Gap) -> dict[str, Any]:
    return {
        "conversation": gap.sender_id, "history": gap.history, "from": gap.first, "to": gap.last,
    }  # fmt: skip
