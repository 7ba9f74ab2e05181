"""Who does something by a command, and why: for the audit of the operator's page."""

from __future__ import annotations

import argparse
import os
import pwd
import socket

from ..server.operator.audit import WHY, AuditRecord, planned


def why_option(command: argparse.ArgumentParser) -> None:
    """Add the option `--why`."""
    command.add_argument(
        "--why",
        type=_reason,
        default="",
        metavar="TEXT",
        help="a reason, for the audit of the page",
    )


def _reason(text: str) -> str:
    text = text.strip()
    if len(text) > WHY:
        raise argparse.ArgumentTypeError(f"a reason may have at most {WHY} characters")
    return text


def record_of(action: str, args: argparse.Namespace) -> AuditRecord:
    """The record of an action without its result."""
    return planned(action, _user(), args.why, socket.gethostname())


def _user() -> str:
    """The user by the system, because the environment can be set to anything."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # as in many containers
        return f"user {number}"
