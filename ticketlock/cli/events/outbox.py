"""`ticketlock events status`, `dead` and `resend`: waiting events and dead letters."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ...endpoints.file import Endpoints, read_endpoints
from ...endpoints.registry import create_tracker_store, prepare_event_broker, require_existing
from ...errors import ConfigurationError
from ...publishing.broker import resend
from ...tracker.outbox import DeadLetter
from ...tracker.store import TrackerStore
from ..common import ENDPOINTS, EXIT_FAILED, EXIT_OK, positive

#: Seconds for the broker to confirm one dead letter.
_SECONDS = 10.0


def add(actions: Any) -> None:
    """Add the commands to the group's subcommands."""
    status = actions.add_parser("status", help="how many events wait to be published")
    dead = actions.add_parser("dead", help="list events that could not be published")
    dead.add_argument("--limit", type=positive, default=1000, help="at most this many (1000)")
    dead.add_argument("--drop", action="store_true", help="remove the listed events")
    resend = actions.add_parser("resend", help="publish the dead letters again")
    resend.add_argument("--limit", type=positive, default=1000, help="at most this many (1000)")
    for parser, work in ((status, _status), (dead, _dead), (resend, _resend)):
        parser.add_argument(
            "--endpoints", type=Path, default=ENDPOINTS, metavar="FILE",
            help="file with the sections tracker_store and event_broker (%(default)s)",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(command=_command(work))


def _command(
    work: Callable[[argparse.Namespace, Endpoints, TrackerStore], Awaitable[int]],
) -> Callable[[argparse.Namespace], int]:
    async def run(args: argparse.Namespace) -> int:
        endpoints = read_endpoints(args.endpoints)
        section, where = endpoints.section("tracker_store"), endpoints.where("tracker_store")
        store = create_tracker_store(section, where=where)
        require_existing(store)
        async with store:
            return await work(args, endpoints, store)

    return lambda args: asyncio.run(run(args))


async def _status(args: argparse.Namespace, endpoints: Endpoints, store: TrackerStore) -> int:
    backlog = await store.outbox.backlog()
    dead = len(await store.outbox.dead_letters())
    if args.json:
        print(json.dumps({
            "conversations": backlog.conversations, "events": backlog.events,
            "oldest_seconds": round(backlog.age, 3), "dead_letters": dead,
        }))  # fmt: skip
        return EXIT_OK
    print(f"{backlog.events} events of {backlog.conversations} conversations wait", end="")
    print(f", the longest for {backlog.age:.1f} s" if backlog.events else "")
    print(f"{dead}{' or more' if dead >= 1000 else ''} dead letters")  # the list is limited to them
    return EXIT_OK


async def _dead(args: argparse.Namespace, endpoints: Endpoints, store: TrackerStore) -> int:
    letters = await store.outbox.dead_letters(args.limit)
    for letter in letters:
        _print(letter, args.json)
        if args.drop:
            await store.outbox.remove_dead_letter(letter)
    if not letters and not args.json:
        print("no dead letters")
    return EXIT_OK


async def _resend(args: argparse.Namespace, endpoints: Endpoints, store: TrackerStore) -> int:
    section, where = endpoints.section("event_broker"), endpoints.where("event_broker")
    if section is None:
        raise ConfigurationError(f"{where}: is missing: it names the broker to publish to")
    letters = await store.outbox.dead_letters(args.limit)
    broker = await prepare_event_broker(section, where)
    sent = 0
    try:
        await broker.connect_once()
        for letter in letters:
            outcome = await resend(broker, letter, _SECONDS)
            if outcome.status == "delivered":
                await store.outbox.remove_dead_letter(letter)
                sent += 1
            else:
                _print(letter, args.json, outcome.reason)
    finally:
        await broker.close()
    if args.json:
        print(json.dumps({"published": sent, "left": len(letters) - sent}))
    else:
        print(f"{sent} of {len(letters)} published")
    return EXIT_OK if sent == len(letters) else EXIT_FAILED


def _print(letter: DeadLetter, as_json: bool, reason: str = "") -> None:
    if as_json:
        print(json.dumps({
            "sender_id": letter.sender_id, "history": letter.history,
            "sequence": letter.sequence, "reason": reason or letter.reason, "at": letter.at,
            "event": letter.event,
        }))  # fmt: skip
    else:
        print(f"{letter.sender_id!r} {letter.sequence}: {reason or letter.reason}")
