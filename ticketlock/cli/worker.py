"""`ticketlock worker`: turns of messages that other processes accept."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from .common import EXIT_OK, port
from .deployment import add_options, prepare


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    worker = commands.add_parser(
        "worker",
        help="handle accepted messages without a port: scale turns apart from webhooks",
        description="Handles messages that `ticketlock run` or `conversations.submit` accept, with "
        "the bot and the file of those replicas. It has no webhooks, and no port without --port. "
        "Replicas handle messages too, unless they run with --accept-only. "
        "`max_turns` of the section `server` is how many it handles at once. On SIGTERM running "
        "turns get time to end (`drain_timeout`); a second SIGTERM ends them at once.",
    )
    worker.set_defaults(command=_run)
    worker.add_argument(
        "--host", default="127.0.0.1", help="address for --port to listen on (%(default)s)"
    )
    worker.add_argument(
        "--port", type=port,
        help="listen here for health checks, metrics and the page; 0: any free port (default: none)",
    )  # fmt: skip
    add_options(worker)


def _run(args: argparse.Namespace) -> int:
    made = prepare(args, "worker")
    from ..server.run import listen

    with ExitStack() as stack:
        listener = None
        if args.port is not None:
            listener = stack.enter_context(listen(args.host, args.port))
        made.serve(listener, webhooks=False)
    return EXIT_OK
