"""The `ticketlock` command; each group of commands has its file."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ..demo import Interrupted
from ..errors import ConfigurationError, InvalidConversationId, TicketLockError
from . import config, demo, events, locks, run, tracker
from .common import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK, EXIT_SIGNAL, EXIT_UNAVAILABLE

__all__ = [
    "EXIT_BAD_INPUT", "EXIT_FAILED", "EXIT_OK", "EXIT_SIGNAL", "EXIT_UNAVAILABLE", "main",
]  # fmt: skip

EXAMPLES = """\
examples:
  ticketlock demo                          three replicas, a Redis of its own
  ticketlock demo --kill                   the same while replicas are killed
  ticketlock demo --endpoints FILE         with the stores of an endpoints.yml
  ticketlock demo --messages chat.jsonl    replay lines of {"sender_id": ..., "text": ...}
  ticketlock run --bot module:function     serve a bot over HTTP
  ticketlock inspect CONVERSATION          who holds it, who waits
  ticketlock break CONVERSATION            end the turn that hangs
  ticketlock config check endpoints.yml    is it right, does everything answer
  ticketlock tracker show CONVERSATION     the events of its tracker store
  ticketlock events consume                store what the event broker carries
  ticketlock events export                 publish the history to the event broker
"""


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ticketlock",
        description="FIFO ticket locks for replicated chat bots, on Redis.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in (demo, run, locks, config, tracker, events):
        group.add(commands)
    return parser
