"""The scripts of `lua/`, assembled from their parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

#: A line that includes other scripts: their functions, or with `name()` a whole script as a
#: function of KEYS and ARGV. It stands as late as possible: Lua makes functions at each call.
_INCLUDE = re.compile(r"^ *--@ (.+)\n", re.MULTILINE)


class Script(NamedTuple):
    """A script's source, and its digest for EVALSHA."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script `lua/<name>.lua`, with the scripts that it includes."""
    source = _assembled(name, set())
    return Script(source, digest(source))


@cache
def digest(source: str) -> str:
    """The name of a script for EVALSHA."""
    return hashlib.sha1(source.encode()).hexdigest()


def _assembled(part: str, known: set[str]) -> str:
    """A script with others in place of its `--@` lines, each once in a function."""
    name = part.removesuffix("()")
    own = known if name == part else set(known)  # a function's own definitions are local

    def included(line: re.Match[str]) -> str:
        wanted = [other for other in line[1].split() if other not in own]
        own.update(wanted)
        return "".join(_assembled(other, own) for other in wanted)

    text = _INCLUDE.sub(included, _text(part))
    return text if name == part else f"local function {name}(KEYS, ARGV)\n{text}end\n"


def _text(part: str) -> str:
    return files("ticketlock.lua").joinpath(f"{part.removesuffix('()')}.lua").read_text()


class Loads:
    """The commands of a prologue that load scripts, to be sent again when the server has lost those.

    Args:
        prologue: commands.
        packed: the same ones as they are sent.
        together: digests of scripts of which none may be known without the others: calls use one or
            the other, and those behind would overtake what met an unknown one.
    """

    def __init__(
        self,
        prologue: Sequence[tuple[Any, ...]],
        packed: Sequence[bytes],
        together: Collection[str],
    ) -> None:
        pairs = zip(prologue, packed, strict=True)
        self._packed = {
            digest(args[2]).encode(): load for args, load in pairs if args[0] == "SCRIPT"
        }
        self._together = {sha.encode() for sha in together}

    def needed(self, calls: Sequence[bytes | None]) -> list[bytes]:
        """The loads of what calls need; None: one whose script is among those together."""
        text = b"".join(call or b"" for call in calls)
        wanted = {sha for sha in self._packed if sha in text}
        if None in calls or wanted & self._together:
            wanted |= self._together
        return [load for sha, load in self._packed.items() if sha in wanted]
