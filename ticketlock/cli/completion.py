"""`ticketlock completion`: completion of the command line for a shell."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .common import EXIT_OK
from .parsers import arguments, subcommands

SHELLS = ("bash", "zsh", "fish")

EPILOG = """\
to have it in each new shell:
  bash  ticketlock completion bash >> ~/.bash_completion
  zsh   ticketlock completion zsh > ~/.zfunc/_ticketlock   # a folder of $fpath
  fish  ticketlock completion fish > ~/.config/fish/completions/ticketlock.fish
"""


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands; `whole` of its arguments makes the parser of all."""
    command = commands.add_parser(
        "completion", help="print the completion of bash, zsh or fish", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(command=_completion)
    command.add_argument("shell", choices=SHELLS)


def _completion(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise ConfigurationError('completion needs shtab: pip install "ticketlock[cli]"') from None
    parser = args.whole()
    _name_files(parser, shtab.FILE)
    print(shtab.complete(parser, args.shell))
    return EXIT_OK


def _name_files(parser: argparse.ArgumentParser, file: Any) -> None:
    """Complete file names for arguments that are paths."""
    for argument in arguments(parser):
        if argument.type is Path:
            argument.complete = file  # type: ignore[attr-defined]  # read by shtab
    for _, parsers in subcommands(parser):
        for one in parsers.values():
            _name_files(one, file)
