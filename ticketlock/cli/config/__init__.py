"""`ticketlock config`: check an `endpoints.yml`, and its schema for editors."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from ..common import ENDPOINTS, EXIT_FAILED, EXIT_OK
from .check import Component, check
from .schema import schema


def add(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    config = commands.add_parser("config", help="check an endpoints.yml")
    actions = config.add_subparsers(metavar="ACTION", required=True)
    checking = actions.add_parser("check", help="check the file, and connect to all that it names")
    checking.set_defaults(command=_check)
    checking.add_argument(
        "file", type=Path, metavar="FILE", nargs="?", default=ENDPOINTS,
        help="%(default)s, or Rasa's credentials.yml",
    )  # fmt: skip
    checking.add_argument("--json", action="store_true", help="print one JSON object")
    printing = actions.add_parser("schema", help="print the JSON Schema of the file")
    printing.set_defaults(command=_schema)


def _check(args: argparse.Namespace) -> int:
    report = asyncio.run(check(args.file))
    if args.json:
        print(json.dumps(report.as_dict()))
    else:
        for component in report.components:
            print("\n".join(_describe(component)))
        for name, why in report.unused.items():
            print(f"note {name}: not used: {why}")
        if report.install is not None:
            print(f"to install what is missing: {report.install}")
    return EXIT_OK if report.ok else EXIT_FAILED


def _describe(component: Component) -> list[str]:
    sign = "ok  " if component.problem is None else "FAIL"
    lines = [f"{sign} {component.section}: {component.kind}, {component.where}"]
    if component.problem is not None:
        lines += [f"     {line}" for line in component.problem.splitlines()]
    if component.warning is not None:
        lines.append(f"     warning: {component.warning}")
    return lines


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(schema(), indent=2))
    return EXIT_OK
