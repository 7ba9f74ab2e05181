"""The `ticketlock` command; each group of commands has a file."""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TextIO

from .. import __version__
from ..aio.signals import Interrupted
from ..errors import ConfigurationError, InvalidConversationId, TicketLockError
from ..settings.section import hint
from .common import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK, EXIT_SIGNAL, EXIT_UNAVAILABLE
from .parsers import option_names, subcommands

__all__ = [
    "EXIT_BAD_INPUT", "EXIT_FAILED", "EXIT_OK", "EXIT_SIGNAL", "EXIT_UNAVAILABLE", "main",
]  # fmt: skip

#: File -> the commands that it adds, in the order of the help.
_GROUPS = {
    "demo": ("demo",), "stress": ("stress",), "run": ("run",), "worker": ("worker",), "top": ("top",),
    "locks": ("inspect", "break"), "inbox": ("inbox",), "config": ("config",),
    "doctor": ("doctor",),
    "tracker": ("tracker",), "events": ("events",), "completion": ("completion",),
}  # fmt: skip

EPILOG = """\
examples:
  ticketlock demo                          three replicas that share conversations
  ticketlock demo --compare                the same traffic with and without the lock
  ticketlock demo --kill                   the same, while replicas are killed
  ticketlock stress                        prove the lock, on a Redis of its own or yours
  ticketlock run                           the echo bot on this machine, in memory
  ticketlock run --bot module:function     serve a bot with the stores of endpoints.yml
  ticketlock worker --bot module:function  handle accepted messages, without webhooks
  ticketlock top                           a live table of held conversations
  ticketlock inspect CONVERSATION          who holds it, and who waits
  ticketlock break CONVERSATION            end the turn that hangs
  ticketlock inbox list                    accepted messages that are not finished
  ticketlock config check endpoints.yml    check the file and all that it names
  ticketlock doctor                        what is wrong with the servers it names
  ticketlock tracker show CONVERSATION     the events of its tracker store
  ticketlock events consume                store published events in a database
  ticketlock completion bash               completion for your shell

exit status:
  0    done
  1    a promise was broken, or there was nothing to act on
  2    a wrong command, option, file or setting; nothing was started
  3    a server or a replica cannot be used
  128  plus the number of the signal that ended it: 130 after Ctrl-C, 141 after a broken pipe
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    _open_standard_streams()
    # The commands print the errors that pika would log too.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    try:
        try:
            return _run(argv)
        finally:
            for stream in _streams():
                stream.flush()
    except BrokenPipeError:
        if not _dropped():
            raise
        return EXIT_SIGNAL + signal.SIGPIPE


def _open_standard_streams() -> None:
    """Those that the caller has closed: uvloop aborts the process if a socket has their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    with suppress(OSError):  # the folder may be gone
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)  # for stores of one's own, as `python -m ticketlock` has it
    try:
        # In here, because it imports most: Ctrl-C ends that without a traceback too.
        args, unknown = _parser(words[0] if words else "").parse_known_args(words)
        if unknown:  # argparse would show the usage of `ticketlock` alone
            near = hint(unknown[0].partition("=")[0], option_names(args.parser))
            guess = f"; {near}" if near.startswith("did") else ""  # the usage has them all
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}{guess}")
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


def _streams() -> list[TextIO]:
    """stdout and stderr, without those that are closed."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _dropped() -> bool:
    """Whether the reader of the output has gone; the rest of the output is then discarded."""
    dropped = False
    for stream in _streams():
        asked = select.poll()
        asked.register(stream.fileno(), 0)
        if asked.poll(0):  # an error or a hang-up: other events were not asked for
            dropped = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return dropped


def _parser(command: str = "") -> argparse.ArgumentParser:
    """The parser of one command, which imports no other; without a known name, that of all."""
    parser = argparse.ArgumentParser(
        prog="ticketlock",
        description="FIFO ticket locks for replicated chat bots, on Redis.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ticketlock {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.set_defaults(whole=_parser)
    found = [file for file, names in _GROUPS.items() if command in names]
    for file in found or _GROUPS:
        import_module(f".{file}", __name__).add(commands)
    for one, groups in _commands(parser):
        one.set_defaults(parser=one)
        for action in groups:
            _print_help(one, action)
    return parser


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[argparse.ArgumentParser, list[argparse.Action]]]:
    """The parser and those of all its subcommands, each with its actions for subcommands."""
    found = list(subcommands(parser))
    yield parser, [action for action, _ in found]
    for _, parsers in found:
        for one in parsers.values():
            yield from _commands(one)


def _print_help(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    """Print the help if no subcommand is given."""

    def show(_: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return EXIT_BAD_INPUT

    action.required = False
    parser.set_defaults(command=show)
