"""`ticketlock run`: the bot server."""

from __future__ import annotations

import argparse
import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..conversations import Conversations
from ..endpoints.file import Endpoints, read_endpoints
from ..endpoints.registry import missing_extras
from ..errors import ConfigurationError
from ..imports import missing, needs
from ..server.access_log import AccessLog
from ..telemetry.observer import Observer
from . import logs
from .common import ENDPOINTS, EXIT_OK

_ECHO = "ticketlock.server:echo"


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
    run.add_argument(
        "--endpoints", type=Path, metavar="FILE",
        help="file that names the stores (endpoints.yml; without it all is in memory)",
    )  # fmt: skip
    run.add_argument(
        "--bot", metavar="MODULE:FUNCTION", default=_ECHO,
        help="async def bot(turn, message) that yields replies (default: it echoes)",
    )  # fmt: skip
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    run.add_argument(
        "--port", type=int, default=5005, help="port to listen on; 0: any free one (%(default)s)"
    )
    run.add_argument(
        "--drain-timeout", type=float, metavar="SECONDS", help="overrides drain_timeout of the file"
    )
    logs.add(run)
    run.add_argument(
        "--access-log", action="store_true", help="log a line for each message (level info)"
    )
    run.add_argument(
        "--otel", action="store_true",
        help="send traces and metrics to the configured OpenTelemetry SDK: "
        "opentelemetry-instrument ticketlock run --otel",
    )  # fmt: skip


def _otel() -> Observer:
    try:
        from ..telemetry.otel import OpenTelemetry, is_recorded
    except ImportError as error:
        raise ConfigurationError(f"--otel: {error}") from error
    if not is_recorded():
        logging.getLogger("ticketlock.server").warning(
            "--otel: no OpenTelemetry SDK is configured: spans are dropped. Start it as "
            "opentelemetry-instrument ticketlock run --otel"
        )
    return OpenTelemetry()


def _run(args: argparse.Namespace) -> int:
    try:
        from ..server.bot import load_bot
        from ..server.run import listen, serve
        from ..server.settings import Settings
    except ImportError as error:
        found = {"server": missing("server")}
        if not missing("yaml"):  # needed to read what the file needs
            sections = ("lock_store", "tracker_store", "event_broker")
            found |= missing_extras(_endpoints(args.endpoints), *sections)
        if not any(found.values()):
            raise  # no extra is missing: a module is broken, and the traceback says which
        raise ConfigurationError(f"run {needs(found)}") from error
    from ..deliveries.settings import CallbackSettings
    from ..server.channels import create_channels

    logs.set_up(args)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the server logs the same
    endpoints = _endpoints(args.endpoints)
    settings = Settings.from_section(endpoints.section("server"), endpoints.where("server"))
    if args.drain_timeout is not None:
        settings = replace(settings, drain_timeout=args.drain_timeout)
    channels = create_channels(endpoints.section("channels"), endpoints.where("channels"))
    section = endpoints.section("callback")
    callback = None
    if section is not None:
        callback = CallbackSettings.from_section(section, endpoints.where("callback"))
    bot = load_bot(args.bot)
    conversations = Conversations.from_endpoints(endpoints)
    if endpoints.section("tracker_store") is not None and endpoints.section("lock_store") is None:
        logging.getLogger("ticketlock.server").warning(
            "%s is missing: this process keeps its locks to itself, and other replicas do not wait for them",
            endpoints.where("lock_store"),
        )
    if args.access_log:
        conversations.observe(AccessLog())
    if args.otel:
        conversations.observe(_otel())
    with listen(args.host, args.port) as listener:
        if not endpoints.sections:
            logging.getLogger("ticketlock.server").info(
                "no %s with stores: %s runs in memory, and forgets everything when it ends",
                ENDPOINTS,
                "the echo bot" if args.bot == _ECHO else args.bot,
            )
        asyncio.run(serve(conversations, bot, settings, listener, channels, callback))
    return EXIT_OK


def _endpoints(path: Path | None) -> Endpoints:
    """The sections of the file; none if no file is named and the default does not exist."""
    if path is None and not ENDPOINTS.exists():
        return Endpoints(str(ENDPOINTS))
    return read_endpoints(path or ENDPOINTS)
