"""`ticketlock tracker`: show, export, import and migrate the histories of a tracker store."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..aio.running import result
from ..conversations import Conversations
from ..endpoints.file import read_endpoints
from ..endpoints.registry import create_lock_store, create_tracker_store, require_existing
from ..errors import ConfigurationError
from ..files.private import new_private
from ..progress import Bar
from ..tracker.store import TrackerStore
from ..tracker.transfer import Tally, TransferError, export, history_of, line_of, load, migrate
from .common import ENDPOINTS, EXIT_FAILED, EXIT_OK


def add(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    tracker = commands.add_parser("tracker", help="list, show, move conversation histories")
    actions = tracker.add_subparsers(metavar="ACTION", required=True)
    _action(actions, "list", _list, "list the ids of all conversations")
    show = _action(actions, "show", _show, "show the events of a conversation")
    show.add_argument("conversation", metavar="CONVERSATION")
    delete = _action(
        actions, "delete", _delete, "remove a conversation with its messages and fence"
    )
    delete.add_argument("conversation", metavar="CONVERSATION")
    saving = _action(actions, "export", _export, "write all conversations as JSON lines")
    saving.add_argument("file", metavar="FILE", type=Path, help="- for standard output")
    saving.add_argument(
        "--format", choices=("ticketlock", "rasa"), default="ticketlock",
        help="rasa: leave out what Rasa cannot read, for an import into its SQL database",
    )  # fmt: skip
    loading = _action(actions, "import", _import, "read the conversations of an export")
    loading.add_argument("file", metavar="FILE", type=Path)
    loading.add_argument("--replace", action="store_true", help="replace conversations that differ")
    moving = _action(actions, "migrate", _migrate, "copy all to another store, and verify the copy")
    moving.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help="endpoints.yml of the other store"
    )


def _action(actions: Any, name: str, function: object, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = actions.add_parser(name, help=text)
    command.set_defaults(command=function)
    command.add_argument(
        "--endpoints", type=Path, default=ENDPOINTS, metavar="FILE",
        help="file with the section tracker_store (%(default)s)",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def _open(path: Path, creates: bool = False) -> TrackerStore:
    endpoints = read_endpoints(path)
    section = endpoints.section("tracker_store")
    store = create_tracker_store(section, where=endpoints.where("tracker_store"))
    if not creates:
        require_existing(store)
    return store


def _with_store(
    path: Path, work: Callable[[TrackerStore], Awaitable[Any]], creates: bool = False
) -> Any:
    async def body() -> Any:
        async with _open(path, creates) as store:
            return await work(store)

    return asyncio.run(body())


def _list(args: argparse.Namespace) -> int:
    ids = sorted(_with_store(args.endpoints, lambda store: result(store.keys())))
    if args.json:
        print(json.dumps({"conversations": ids}))
    else:
        for sender_id in ids:
            print(_quoted(sender_id))
    return EXIT_OK


def _show(args: argparse.Namespace) -> int:
    events = _with_store(args.endpoints, lambda store: history_of(store, args.conversation))
    if not events:
        print(f"ticketlock: there is no conversation {args.conversation!r}", file=sys.stderr)
        return EXIT_FAILED
    if args.json:
        print(json.dumps({**line_of(args.conversation, events), "count": len(events)}))
    else:
        print(f"conversation {args.conversation!r}, {len(events)} events")
        for number, event in enumerate(events):
            print(_line(number, event))
    return EXIT_OK


def _line(number: int, event: dict[str, Any]) -> str:
    """An event as a line: number, type and content."""
    said = next((event[key] for key in ("text", "name", "flow_id") if event.get(key)), "")
    text = f"{number:>6}  {event.get('event', '?'):<20} {_quoted(str(said))}"
    if event.get("event") == "slot":
        text += f" = {json.dumps(event.get('value'))}"
    return text.rstrip()


def _quoted(text: str) -> str:
    """The text if it is printable; otherwise escaped, so that it cannot disturb a terminal."""
    return text if text.isprintable() else ascii(text)


def _delete(args: argparse.Namespace) -> int:
    async def body() -> bool:
        endpoints = read_endpoints(args.endpoints)
        locks, place = endpoints.section("lock_store"), endpoints.where("lock_store")
        async with (
            _open(args.endpoints) as store,
            create_lock_store(locks, place) as lock_store,
        ):
            return await Conversations(lock_store, store).delete(args.conversation)

    found = asyncio.run(body())
    said = "deleted" if found else f"there is no conversation {args.conversation!r}"
    print(json.dumps({"deleted": found}) if args.json else said)
    return EXIT_OK if found else EXIT_FAILED


def _export(args: argparse.Namespace) -> int:
    for_rasa = args.format == "rasa"

    async def work(store: TrackerStore) -> Tally:
        with Bar() as bar:
            bar.phase("conversations")
            if str(args.file) == "-":
                return await export(store, sys.stdout, bar.show, for_rasa=for_rasa)
            # Written beside it first, so that an interrupted export keeps the old file.
            part = args.file.with_name(args.file.name + ".part")
            try:
                with new_private(part) as out:
                    tally = await export(store, out, bar.show, for_rasa=for_rasa)
                part.replace(args.file)
            except OSError as error:
                raise ConfigurationError(f"{args.file}: {error.strerror}") from error
            return tally

    tally = _with_store(args.endpoints, work)
    return _report(args, tally, sys.stderr if str(args.file) == "-" else None)


def _import(args: argparse.Namespace) -> int:
    async def work(store: TrackerStore) -> Tally:
        with Bar() as bar:
            bar.phase("conversations")
            try:
                return await load(store, args.file, bar.show, replace=args.replace)
            except TransferError as error:  # of the file; those of conversations are counted
                raise ConfigurationError(str(error)) from error

    return _report(args, _with_store(args.endpoints, work, creates=True))


def _migrate(args: argparse.Namespace) -> int:
    async def work(source: TrackerStore) -> Tally:
        async with _open(args.to, creates=True) as target:
            if source.histories_at and source.histories_at == target.histories_at:
                raise ConfigurationError(
                    f"--to {args.to} has the tracker store of {args.endpoints}: {source.histories_at}"
                )
            with Bar() as bar:
                bar.phase("conversations")
                return await migrate(source, target, bar.show)

    return _report(args, _with_store(args.endpoints, work))


def _report(args: argparse.Namespace, tally: Tally, out: Any = None) -> int:
    numbers = {
        "conversations": tally.conversations,
        "events": tally.events,
        "skipped": tally.skipped,
    }
    for sender_id in tally.gone:
        print(
            f"ticketlock: conversation {_quoted(sender_id)} no longer has events", file=sys.stderr
        )
    for kind, count in tally.left_out.items():
        text = f"ticketlock: {count} events {_quoted(kind)} were left out: Rasa does not know them"
        print(text, file=sys.stderr)
    for sender_id, why in tally.failed.items():
        text = f"ticketlock: conversation {_quoted(sender_id)} was not copied: {_quoted(why)}"
        print(text, file=sys.stderr)
    if args.json:
        failed = {"failed": tally.failed} if tally.failed else {}
        print(json.dumps({**numbers, **failed}), file=out)
    else:
        text = ", ".join(f"{count} {name}" for name, count in numbers.items())
        print(text + f", {len(tally.failed)} failed" * bool(tally.failed), file=out)
    return EXIT_FAILED if tally.failed else EXIT_OK
