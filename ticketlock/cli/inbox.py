"""`ticketlock inbox`: messages that were accepted and are not finished, and dead letters."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..inbox.due import Due
from ..inbox.submission import Letter, Letters
from ..locks.concurrent.store import ConcurrentRedisLockStore
from ..server.operator.audit import Audit
from ..server.operator.messages import ACTIONS, Target, reason_of, settle
from .auditing import record_of, why_option
from .common import EXIT_FAILED, EXIT_OK, positive
from .lock_stores import open_lock_store, place_options
from .locks import span

if TYPE_CHECKING:
    from ..inbox.redis import RedisInbox

Work = Callable[[argparse.Namespace, "RedisInbox", Audit], Awaitable[int]]

_HELP = {
    "withdraw": "take back a message whose turn has not begun: it is never handled",
    "resend": "submit a dead letter again, behind the messages that wait",
    "drop": "remove a dead letter",
}


def add(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    inbox = commands.add_parser(
        "inbox", help="accepted messages: list, show, withdraw; resend dead letters"
    )
    actions = inbox.add_subparsers(metavar="ACTION", required=True)
    listing = _action(actions, "list", _list, "conversations with messages, or the messages of one")
    dead = _action(actions, "dead", _dead, "list messages that were given up, and dead deliveries")
    for command in (listing, dead):
        command.add_argument("conversation", metavar="CONVERSATION", nargs="?", help="its id")
        command.add_argument("--limit", type=positive, default=100, help="at most this many (100)")
    show = _action(actions, "show", _show, "show messages with their texts")
    show.add_argument("conversation", metavar="CONVERSATION", help="its id")
    show.add_argument("message", metavar="MESSAGE", nargs="?", help="its id")
    for name in ACTIONS:
        command = _action(actions, name, _change, _HELP[name])
        command.set_defaults(action=name)
        command.add_argument("conversation", metavar="CONVERSATION", help="its id")
        command.add_argument("message", metavar="MESSAGE", help="its id")
        if name != "withdraw":
            command.add_argument(
                "--delivery", dest="kind", action="store_const", const="delivery",
                default="message", help="not the message, but the replies to it that could not be sent out",
            )  # fmt: skip
        why_option(command)


def _action(actions: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = actions.add_parser(name, help=text)
    command.set_defaults(command=_command(work))
    place_options(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def _command(work: Work) -> Callable[[argparse.Namespace], int]:
    async def run(args: argparse.Namespace) -> int:
        from ..inbox.redis import RedisInbox  # redis-py

        async with open_lock_store(args) as store:
            if not isinstance(store, ConcurrentRedisLockStore):
                raise ConfigurationError(
                    f"lock_store: {type(store).__name__} keeps no messages: they are in the "
                    "memory of the replica that took them; an inbox needs type concurrent_redis"
                )
            return await work(args, RedisInbox(store), Audit(store, logs=False))

    return lambda args: asyncio.run(run(args))


async def _list(args: argparse.Namespace, inbox: RedisInbox, audit: Audit) -> int:
    if args.conversation is None:
        found = await inbox.conversations(args.limit)
        if args.json:
            print(json.dumps({"conversations": [one.as_dict() for one in found]}))
            return EXIT_OK
        _table(
            ("CONVERSATION", "MESSAGES", "WAITED", "ATTEMPTS", "REPLIES TO SEND", "STATE"),
            [
                (repr(one.conversation_id), str(one.messages), span(one.waited),
                 str(one.attempts), str(one.deliveries), one.state)
                for one in found
            ],
            "no message and no reply waits; `inbox list CONVERSATION` shows also what comes due later",
        )  # fmt: skip
        return EXIT_OK
    messages = await inbox.waiting(args.conversation, args.limit)
    due = await inbox.due(args.conversation, args.limit)
    if args.json:
        print(json.dumps({
            "messages": [one.as_dict(texts=False) for one in messages],
            "due": [one.as_dict(texts=False) for one in due],
        }))  # fmt: skip
        return EXIT_OK
    _table(
        ("MESSAGE", "TICKET", "WAITED", "ATTEMPTS", "STATE"),
        [
            (repr(one.message_id), str(one.number), span(one.waited), str(one.attempts),
             "runs" if one.running else "waits")
            for one in messages
        ]
        + [(repr(one.message_id), "-", "-", "0", _due_in(one)) for one in due],
        "no message waits",
    )  # fmt: skip
    return EXIT_OK


async def _dead(args: argparse.Namespace, inbox: RedisInbox, audit: Audit) -> int:
    if args.conversation is None:
        found = await inbox.all_letters(args.limit)
    else:
        letters = await inbox.letters(args.conversation, args.limit + 1)
        found = Letters(letters[: args.limit], len(letters) > args.limit)
    if args.json:
        rows = [letter.as_dict(texts=False) for letter in found.rows]
        print(json.dumps({"letters": rows, "more": found.more}))
        return EXIT_OK
    _table(
        ("CONVERSATION", "MESSAGE", "KIND", "DIED", "REASON"),
        [
            (repr(one.conversation_id), repr(one.message_id), one.kind, _ago(one), _reason(one))
            for one in found.rows
        ],
        "no dead letters",
    )
    if found.more:
        print("... and more: raise --limit")
    return EXIT_OK


async def _show(args: argparse.Namespace, inbox: RedisInbox, audit: Audit) -> int:
    messages = await inbox.waiting(args.conversation, 1000)
    due = await inbox.due(args.conversation, 1000)
    letters = await inbox.letters(args.conversation, 1000)
    known: dict[str, Any] = {}
    if args.message is not None:
        messages = [one for one in messages if one.message_id == args.message]
        due = [one for one in due if one.message_id == args.message]
        letters = [one for one in letters if one.message_id == args.message]
        outcome = await inbox.outcome(args.conversation, args.message)
        known = {"state": outcome.state, "outcome": outcome.text}
    there = bool(messages or due or letters or known.get("state", "unknown") != "unknown")
    if args.json:
        print(json.dumps({
            **known, "messages": [one.as_dict() for one in messages],
            "due": [one.as_dict() for one in due],
            "letters": [one.as_dict() for one in letters],
        }))  # fmt: skip
        return EXIT_OK if there else EXIT_FAILED
    if not there:
        print("not there")
        return EXIT_FAILED
    if known:
        print(f"message {args.message!r}: {known['state']}")
        if known["outcome"]:
            print(f"  {known['outcome']!r}")
    for one in messages:
        state = "runs" if one.running else "waits"
        about = f"ticket {one.number}, {one.attempts} attempts, for {span(one.waited)}"
        print(f"message {one.message_id!r} {state}: {about}\n  {one.text!r}")
    for later in due:
        print(f"message {later.message_id!r} is {_due_in(later)}\n  {later.text!r}")
    for letter in letters:
        print(f"dead {letter.kind} {letter.message_id!r}, {_ago(letter)}: {_reason(letter)}")
        print(f"  {letter.text!r}")
    return EXIT_OK


async def _change(args: argparse.Namespace, inbox: RedisInbox, audit: Audit) -> int:
    target = Target(args.conversation, args.message, getattr(args, "kind", "message"))
    made = await settle(inbox, audit, args.action, [target], record_of(args.action, args))
    done = {"withdraw": "withdrawn", "resend": "resent", "drop": "dropped"}[args.action]
    problem = made["problem"]
    if problem and args.action != "withdraw" and target.kind == "message":
        letters = await inbox.letters(args.conversation, 1000)
        if any((one.message_id, one.kind) == (args.message, "delivery") for one in letters):
            problem += "; its replies are one: --delivery"
    if args.json:
        print(json.dumps({done: bool(made["done"]), "problem": problem}))
    else:
        print(problem or done)
    return EXIT_OK if made["done"] else EXIT_FAILED


def _due_in(message: Due) -> str:
    return f"due in {span(max(0.0, message.at - time.time()))}"


def _ago(letter: Letter) -> str:
    return f"{span(time.time() - letter.died / 1000)} ago"


def _reason(letter: Letter) -> str:
    text = reason_of(letter)
    return text if text.isprintable() else ascii(text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> None:
    """Print columns; the last one is not padded."""
    if not rows:
        print(none)
        return
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("  ".join([*cells, line[-1]]))
