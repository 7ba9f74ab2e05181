"""What `ticketlock run` and `ticketlock worker` share: their options, and the bot with its stores."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from ..conversations import Conversations
from ..endpoints.file import Endpoints, read_endpoints
from ..endpoints.registry import missing_extras
from ..errors import ConfigurationError
from ..imports import missing, needs
from ..server.access_log import AccessLog
from ..telemetry.observer import Observer
from . import logs
from .common import ENDPOINTS, between

if TYPE_CHECKING:
    from ..deliveries.settings import CallbackSettings
    from ..server.channels.channel import Channel
    from ..server.settings import Settings

ECHO = "ticketlock.server:echo"


@dataclass
class Deployment:
    """A bot with its stores and settings, before anything connects."""

    endpoints: Endpoints
    bot: Any
    conversations: Conversations
    settings: Settings
    channels: Sequence[Channel]
    callback: CallbackSettings | None

    def serve(self, listener: socket | None, *, webhooks: bool = True, turns: bool = True) -> None:
        """Serve until a signal comes; see `ticketlock.server.run.serve`."""
        from ..server.engines import parser, runner
        from ..server.run import serve

        parser(self.settings.http)  # a wrong key is an error before anything connects
        runner(self.settings.loop)(
            serve(
                self.conversations, self.bot, self.settings, listener, self.channels, self.callback,
                webhooks=webhooks, turns=turns,
            )
        )  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a process that handles messages."""
    parser.add_argument(
        "--endpoints", type=Path, metavar="FILE",
        help="file that names the stores (endpoints.yml; without it all is in memory)",
    )  # fmt: skip
    parser.add_argument(
        "--bot", metavar="MODULE:FUNCTION", default=ECHO,
        help="async def bot(turn, message) that yields replies (default: it echoes)",
    )  # fmt: skip
    parser.add_argument(
        "--domain", type=Path, metavar="FILE",
        help="file or folder of the bot's domain (default: `domain` in the section server)",
    )  # fmt: skip
    parser.add_argument(
        "--drain-timeout",
        type=between(0, 1e6),
        metavar="SECONDS",
        help="overrides drain_timeout of the file",
    )
    logs.add(parser)
    parser.add_argument(
        "--access-log", action="store_true", help="log a line for each message (level info)"
    )
    parser.add_argument(
        "--otel", action="store_true",
        help="send traces and metrics to the configured OpenTelemetry SDK: "
        f"opentelemetry-instrument {parser.prog} --otel",
    )  # fmt: skip


def prepare(args: argparse.Namespace, command: str) -> Deployment:
    """Read the file and load the bot. Raises ConfigurationError."""
    if lacking := missing("server"):
        found = {"server": lacking}
        if not missing("yaml"):  # needed to read what the file needs
            sections = ("lock_store", "tracker_store", "event_broker")
            found |= missing_extras(_endpoints(args.endpoints), *sections)
        raise ConfigurationError(f"{command} {needs(found)}")
    import_module("ticketlock.server.run")  # a package that is broken shows before a file is read
    from ..deliveries.settings import CallbackSettings
    from ..server.bot import load_bot
    from ..server.channels import create_channels
    from ..server.settings import Settings

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
    conversations = Conversations.from_endpoints(endpoints, args.domain)
    if args.access_log:
        conversations.observe(AccessLog())
    if args.otel:
        conversations.observe(_otel())
    return Deployment(endpoints, bot, conversations, settings, channels, callback)


def _otel() -> Observer:
    try:
        from ..telemetry.otel import OpenTelemetry, is_recorded
    except ImportError as error:
        raise ConfigurationError(f"--otel: {error}") from error
    if not is_recorded():
        logging.getLogger("ticketlock.server").warning(
            "--otel: no OpenTelemetry SDK is configured: spans are dropped. Start it with "
            "opentelemetry-instrument before the command"
        )
    return OpenTelemetry()


def _endpoints(path: Path | None) -> Endpoints:
    """The sections of the file; none if no file is named and the default does not exist."""
    if path is None and not ENDPOINTS.exists():
        return Endpoints(str(ENDPOINTS))
    return read_endpoints(path or ENDPOINTS)
