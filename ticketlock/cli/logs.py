"""The log of long-running commands."""

from __future__ import annotations

import argparse
import json
import logging
from datetime import datetime, timezone

LEVELS = ("debug", "info", "warning", "error")

#: Attributes of every record; the others are facts of the message.
_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """A line of JSON per record: `time`, `level`, `logger`, `message`, and its facts as fields.

    Line breaks in ids or messages are escaped.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc)
        fields = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts = {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps({**facts, **fields}, default=str)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="what is logged (%(default)s)"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text",
        help="lines of text, or a JSON object a line (%(default)s)",
    )  # fmt: skip


def formatter(args: argparse.Namespace) -> logging.Formatter:
    """The formatter for the options."""
    if args.log_format == "json":
        return JsonFormatter()
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s")


def set_up(args: argparse.Namespace) -> None:
    """Write the log to stderr, by the options.

    `debug` is for ticketlock's loggers only: those of drivers may log secrets.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(args))
    level = getattr(logging, args.log_level.upper())
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler])
    logging.getLogger("ticketlock").setLevel(level)
