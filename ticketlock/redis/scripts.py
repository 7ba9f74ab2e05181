"""Scripts of `lua/`, put together of their parts."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

#: Where a script wants others: their functions, or with `name()` the script as a function of its
#: KEYS and ARGV. As late as it can be: Lua makes the functions anew with each call.
_WANTED = re.compile(r"^ *--@ (.+)\n", re.MULTILINE)


class Script(NamedTuple):
    """A script's source, and the digest by which the server knows it."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script `lua/<name>.lua`, with what it wants of others."""
    source = _with_others(name, set())
    return Script(source, hashlib.sha1(source.encode()).hexdigest())


def _with_others(part: str, known: set[str]) -> str:
    """A script, and at its `--@` lines the others, but for those that stand around it already."""
    name = part.removesuffix("()")
    own = known if name == part else set(known)  # what a function defines ends with it

    def others(line: re.Match[str]) -> str:
        wanted = [other for other in line[1].split() if other not in own]
        own.update(wanted)
        return "".join(_with_others(other, own) for other in wanted)

    text = _WANTED.sub(others, _text(part))
    return text if name == part else f"local function {name}(KEYS, ARGV)\n{text}end\n"


def _text(part: str) -> str:
    return files("ticketlock.lua").joinpath(f"{part.removesuffix('()')}.lua").read_text()
