"""The `ticketlock` command."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .concurrent_lock_store import ConcurrentRedisLockStore
from .demo import Interrupted, Options, run
from .demo.screen import print_report, require_rich
from .demo.traffic import generate, read_transcript
from .errors import ConfigurationError, InvalidConversationId, TicketLockError
from .inspection import Holder, Inspection, Waiting

EXIT_OK = 0
#: The demo saw a promise broken; or there was no turn to break.
EXIT_FAILED = 1
#: A wrong option, file or setting: nothing has been started.
EXIT_BAD_INPUT = 2
#: Redis or a replica cannot be used.
EXIT_UNAVAILABLE = 3
#: Plus the number of the signal that ended the command.
EXIT_SIGNAL = 128

#: Generated traffic, when the options say nothing else.
CONVERSATIONS, COUNT = 50, 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
        return status
    except (ConfigurationError, InvalidConversationId) as error:
        return _fail(error, EXIT_BAD_INPUT)
    except TicketLockError as error:
        return _fail(error, EXIT_UNAVAILABLE)
    except Interrupted as interrupted:
        return _fail(interrupted, EXIT_SIGNAL + interrupted.number)
    except KeyboardInterrupt:
        return EXIT_SIGNAL + signal.SIGINT


def _fail(error: Exception, status: int) -> int:
    print(f"ticketlock: {error}", file=sys.stderr)
    return status


# -- demo ---------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    if not args.json or sys.stderr.isatty():
        require_rich()
    if args.messages is None:
        count = COUNT if args.count is None else args.count
        messages = generate(args.conversations or CONVERSATIONS, count, args.seed)
    elif args.count is None and args.conversations is None:
        messages = read_transcript(args.messages)
    else:
        raise ConfigurationError("--messages brings its own --count and --conversations")
    report = run(
        Options(
            messages,
            replicas=args.replicas,
            redis=args.redis,
            in_flight=args.in_flight,
            kills=args.kill,
            seed=args.seed,
            unlocked=args.unlocked,
        )
    )
    if args.json:
        print(json.dumps(report.as_json()), flush=True)
    else:
        print_report(report)
    return EXIT_FAILED if report.violations else EXIT_OK


# -- inspect and break --------------------------------------------------------------------------


def _store(args: argparse.Namespace) -> ConcurrentRedisLockStore:
    keys = {"url": args.redis, "key_prefix": args.key_prefix, "where": "--redis"}
    return ConcurrentRedisLockStore(**{key: text for key, text in keys.items() if text})


def _inspect(args: argparse.Namespace) -> int:
    async def look() -> Inspection:
        async with _store(args) as store:
            return await store.inspect(args.conversation, args.limit)

    found = asyncio.run(look())
    print(json.dumps(asdict(found)) if args.json else "\n".join(_describe(found)))
    return EXIT_OK


def _break(args: argparse.Namespace) -> int:
    async def end() -> tuple[Holder | None, bool]:
        async with _store(args) as store:
            holder = (await store.inspect(args.conversation, 0)).holder
            # Nobody but the one who is told about is broken, should the turn end meanwhile.
            fence = args.fence or (holder.fence if holder else None)
            return holder, await store.break_lock(args.conversation, fence)

    holder, broken = asyncio.run(end())
    if args.json:
        print(json.dumps({"broken": broken, "holder": asdict(holder) if holder else None}))
    elif broken:
        print(f"broken: {_turn(holder)}" if holder else "broken")
    elif holder:
        print(f"not broken: {_turn(holder)}")
    else:
        print("not broken: nobody holds it")
    return EXIT_OK if broken else EXIT_FAILED


def _describe(found: Inspection) -> list[str]:
    """An Inspection for people; what others chose as names is quoted."""
    lines = [f"conversation {found.conversation_id!r}"]
    lines.append(f"  held by {_turn(found.holder)}" if found.holder else "  nobody holds it")
    if found.holder:
        lines.append(f"    its lease has {found.holder.lease:.1f} s left")
    lines.append(f"  waiting: {found.waiting_count}")
    for ticket in found.waiting:
        dead = "" if ticket.alive else ", not heard of: will be skipped"
        since = f"for {_span(ticket.waiting_for)}"
        lines.append(f"    {_who(ticket)} {since}, ticket {ticket.number}{dead}")
    if (hidden := found.waiting_count - len(found.waiting)) > 0:
        lines.append(f"    ... and {hidden} more")
    return lines


def _turn(holder: Holder) -> str:
    who, since = _who(holder), _span(holder.held_for)
    return f"{who} for {since}, ticket {holder.number}, fence {holder.fence}"


def _who(ticket: Holder | Waiting) -> str:
    name = "unknown process"
    if ticket.host:
        name = f"host {ticket.host} process {ticket.process}"
    return f"{name} ({ticket.label!r})" if ticket.label else name


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


# -- the words of the command line ----------------------------------------------------------------


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


_positive.__name__ = "number"  # argparse shows it: invalid number value

EXAMPLES = """\
examples:
  ticketlock demo                          three replicas, a Redis of its own
  ticketlock demo --kill                   the same while replicas are killed
  ticketlock demo --messages chat.jsonl    replay lines of {"sender_id": ..., "text": ...}
  ticketlock inspect CONVERSATION          who holds it, who waits
  ticketlock break CONVERSATION            end the turn that hangs
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ticketlock",
        description="FIFO ticket locks for replicated chat bots, on Redis.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _demo_options(commands.add_parser("demo", help="see replicas share conversations, and judge"))
    inspect = commands.add_parser("inspect", help="who holds a conversation, who waits")
    _lock_options(inspect, _inspect)
    inspect.add_argument(
        "--limit", type=_positive, default=100, help="most waiting tickets to list (%(default)s)"
    )
    ending = commands.add_parser("break", help="end the turn of whoever holds a conversation")
    _lock_options(ending, _break)
    ending.add_argument("--fence", type=_positive, help="only if the turn has this fence")
    return parser


def _demo_options(demo: argparse.ArgumentParser) -> None:
    demo.set_defaults(command=_demo)
    option = demo.add_argument
    option("--replicas", type=_positive, default=3, help="bot servers (%(default)s)")
    option("--conversations", type=_positive, help=f"of generated traffic ({CONVERSATIONS})")
    option("--count", type=_positive, help=f"messages of generated traffic ({COUNT})")
    option("--messages", type=Path, metavar="FILE", help="replay this JSON-lines file instead")
    option("--in-flight", type=_positive, default=64, help="most messages at once (%(default)s)")
    option(
        "--kill", type=_positive, nargs="?", const=3, default=0, metavar="TIMES",
        help="kill replicas during the run (%(const)s times)",
    )  # fmt: skip
    option("--seed", type=int, default=1, help="of all chance (%(default)s)")
    option(
        "--redis", metavar="URL", help="default: one of its own; in yours, its keys go within 1 h"
    )
    option("--json", action="store_true", help="print one JSON object instead of the table")
    option("--unlocked", action="store_true", help=argparse.SUPPRESS)


def _lock_options(command: argparse.ArgumentParser, function: object) -> None:
    command.set_defaults(command=function)
    command.add_argument("conversation", metavar="CONVERSATION", help="its id")
    command.add_argument("--redis", metavar="URL", help="default: redis://localhost:6379/1")
    command.add_argument("--key-prefix", help="the lock store's key_prefix")
    command.add_argument("--json", action="store_true", help="print one JSON object")
