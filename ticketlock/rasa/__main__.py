"""`python -m ticketlock.rasa`: back to Rasa's own tracker store, with all histories."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

from rasa.utils.endpoints import read_endpoint_config

from ..endpoints.registry import create_tracker_store
from ..errors import ConfigurationError, TicketLockError
from .back import copy, open_target, publish


def main() -> int:
    """0: all is copied and published; 1: something is not; 2: wrong settings."""
    parser = argparse.ArgumentParser(
        prog="python -m ticketlock.rasa",
        description="Writes the histories of ticketlock's tracker store into Rasa's own, and publishes "
        "events that still wait for the broker. Run it in Rasa's environment while no replica runs.",
    )
    parser.add_argument(
        "--endpoints", type=Path, default=Path("endpoints.yml"), metavar="FILE",
        help="of the replicas that have stopped (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FILE",
        help="endpoints.yml with Rasa's own tracker store",
    )  # fmt: skip
    args = parser.parse_args()
    # Rasa reports each slot that it does not know: here there is no domain.
    logging.getLogger("rasa.shared.core.trackers").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(_run(args))
    except ConfigurationError as error:
        status, text = 2, str(error)
    except TicketLockError as error:
        status, text = 1, str(error)
    print(f"ticketlock: {text}", file=sys.stderr)
    return status


def _section(path: Path, name: str) -> Any:
    if not path.exists():
        raise ConfigurationError(f"{path}: it does not exist: name an endpoints.yml that does")
    return read_endpoint_config(str(path), name)


async def _run(args: argparse.Namespace) -> int:
    section = _section(args.endpoints, "tracker_store")
    if section is None:
        raise ConfigurationError(f"{args.endpoints}: the section tracker_store is missing")
    target = open_target(_section(args.to, "tracker_store"))
    async with create_tracker_store(section) as source:
        left = await publish(source, _section(args.endpoints, "event_broker"))
        tally = await copy(source, target)
    for kind, count in tally.left_out.items():
        print(f"ticketlock: {count} events {kind!r} were left out: Rasa does not know them")
    for sender_id, why in tally.failed.items():
        print(f"ticketlock: conversation {sender_id!r} was not copied: {why}", file=sys.stderr)
    if left:
        print(f"ticketlock: {left} events still wait for the event broker", file=sys.stderr)
    print(
        f"{tally.conversations} conversations with {tally.events} events copied, {tally.skipped} already "
        f"there, {len(tally.failed)} failed"
    )
    return 1 if tally.failed or left else 0


sys.exit(main())
