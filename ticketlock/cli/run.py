"""`ticketlock run`: the bot server."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from .common import ENDPOINTS, EXIT_OK, port
from .deployment import ECHO, add_options, prepare


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    run = commands.add_parser(
        "run",
        help="serve a bot over HTTP: webhooks and conversations",
        description="Serves the documented REST channel and conversation endpoints. The stores "
        "and the section `server` are those of the file. On SIGTERM running turns get time to end "
        "(`drain_timeout`), and waiting messages are answered 503; a second SIGTERM ends the turns at once.",
    )
    run.set_defaults(command=_run)
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    run.add_argument(
        "--port", type=port, default=5005, help="port to listen on; 0: any free one (%(default)s)"
    )
    run.add_argument(
        "--accept-only", action="store_true",
        help="accept messages and leave their turns to `ticketlock worker`",
    )  # fmt: skip
    add_options(run)


def _run(args: argparse.Namespace) -> int:
    made = prepare(args, "run")
    from ..server.run import listen

    log, endpoints = logging.getLogger("ticketlock.server"), made.endpoints
    if endpoints.section("tracker_store") is not None and endpoints.section("lock_store") is None:
        log.warning(
            "%s is missing: this process keeps its locks to itself, and other replicas do not wait for them",
            endpoints.where("lock_store"),
        )
    with listen(args.host, args.port) as listener:
        if not endpoints.sections:
            log.info(
                "no %s with stores: %s runs in memory, and forgets everything when it ends",
                ENDPOINTS,
                "the echo bot" if args.bot == ECHO else args.bot,
            )
        made.serve(listener, turns=not args.accept_only)
    return EXIT_OK
