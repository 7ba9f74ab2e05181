"""Exit statuses and argument types of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

#: The file that commands read by default.
ENDPOINTS = Path("endpoints.yml")

EXIT_OK = 0
#: A promise was broken, a copy differs, or there was nothing to act on.
EXIT_FAILED = 1
#: A wrong option, file or setting; nothing was started.
EXIT_BAD_INPUT = 2
#: A server or a replica cannot be used.
EXIT_UNAVAILABLE = 3
#: Plus the number of the signal that ended the command.
EXIT_SIGNAL = 128


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


positive.__name__ = "number"  # argparse shows it: invalid number value


def port(text: str) -> int:
    """The type of a TCP port; 0: any free one."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 65535")
    return number


def above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


above_zero.__name__ = "number"  # as above


def between(least: float, most: float) -> Callable[[str], float]:
    """The type of a number from `least` to `most`."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return value

    return number
