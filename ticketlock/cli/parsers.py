"""The parts of a parser that argparse has no public names for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping


def arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The options and arguments of a parser, without its subcommands."""
    yield from (a for a in _actions(parser) if not isinstance(a, _SUBCOMMANDS))


def subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[argparse.Action, Mapping[str, argparse.ArgumentParser]]]:
    """The subcommands of a parser: their action, and their parsers by name."""
    for action in _actions(parser):
        if isinstance(action, _SUBCOMMANDS):
            yield action, action.choices


def option_names(parser: argparse.ArgumentParser) -> Iterable[str]:
    """The names of all options of a parser."""
    return parser._option_string_actions  # noqa: SLF001  # argparse


_SUBCOMMANDS = argparse._SubParsersAction  # noqa: SLF001  # argparse


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001  # argparse
