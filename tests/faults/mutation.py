"""Making mutants: a place in the code, named so that it is known at once when it is gone.

Each function returns a patch, to be applied with a MonkeyPatch. It looks for its place when it
is called, which is when a table of mutants is built: `CannotMutate` there stops the collection
of the tests. A mutant that nobody could apply would test nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ticketlock.redis import scripts as lua_scripts

Patch = Callable[[pytest.MonkeyPatch], None]


class CannotMutate(Exception):
    """The place that a mutant changes is not there, or is not the only one."""


class MutantUnnoticed(Exception):
    """No assertion of the story has failed on the mutant."""


def replaced(source: str, old: str, new: str, where: str) -> str:
    """Source with its only piece `old` replaced, however the white space in it may differ."""
    # Between two words some white space must stand, elsewhere any or none.
    words = re.findall(r"\w+|[^\w\s]", old)
    gaps = [r"\s+" if a[-1].isalnum() and b[0].isalnum() else r"\s*" for a, b in pairwise(words)]
    pattern = "".join(re.escape(word) + gap for word, gap in zip(words, [*gaps, ""], strict=True))
    found = re.findall(rf"(?<!\w){pattern}" if old[0].isalnum() else pattern, source)
    if len(found) != 1:
        raise CannotMutate(f"{where} has {len(found)} places {old!r}: name one")
    return re.sub(pattern, lambda _: new, source)


def lua(name: str, old: str, new: str) -> Patch:
    """Replace the only such piece of `lua/<name>.lua`."""
    source = files("ticketlock.lua").joinpath(f"{name}.lua").read_text()
    replaced(source, old, new, f"lua/{name}.lua")

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = lua_scripts._text

        def text(part: str) -> str:
            source = original(part)
            if part.removesuffix("()") == name:
                source = replaced(source, old, new, f"lua/{name}.lua")
            return source

        monkeypatch.setattr(lua_scripts, "_text", text)
        cached = lua_scripts.load
        for module in list(sys.modules.values()):
            if getattr(module, "load", None) is cached:
                monkeypatch.setattr(module, "load", getattr(cached, "__wrapped__", cached))

    return patch


def python(owner: type, name: str, old: str, new: str) -> Patch:
    """Replace the only such piece of a method's source."""
    function = inspect.unwrap(getattr(owner, name))
    where = f"{owner.__name__}.{name}"
    source = textwrap.dedent(inspect.getsource(function))
    changed = replaced(source, old, new, where)

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        module = vars(sys.modules[function.__module__])
        made: dict[str, Any] = {}
        header = "from __future__ import annotations\n"
        code = compile(header + changed, f"<mutant of {where}>", "exec")
        exec(code, module, made)  # noqa: S102  # our own source, but for the mutation
        monkeypatch.setattr(owner, name, made[name])

    return patch


def function(module: ModuleType, name: str, replacement: Callable[..., Any]) -> Patch:
    """Replace a function that a module calls."""
    if not callable(vars(module).get(name)):
        raise CannotMutate(f"{module.__name__} calls no {name!r}")
    return lambda monkeypatch: monkeypatch.setattr(module, name, replacement)


def method(owner: type, name: str, replacement: Callable[..., Any]) -> Patch:
    """Replace a method."""
    _there(owner, name)
    return lambda monkeypatch: monkeypatch.setattr(owner, name, replacement)


def wrapped(owner: type, name: str, wrapper: Callable[..., Any]) -> Patch:
    """Replace a method by one that is given the original first."""
    _there(owner, name)

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: wrapper(original, *a, **k))

    return patch


def both(*patches: Patch) -> Patch:
    """Several changes that make one mutant."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for each in patches:
            each(monkeypatch)

    return patch


def expect_noticed(story: Callable[[], None]) -> None:
    """Run a story on a mutant: one of its own assertions must fail.

    That it passes, hangs until its time is over, or fails in any other way is no catch: it
    would do that as well where the mutant keeps everything from working.
    """
    try:
        story()
    except AssertionError as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        if "tests" not in Path(last).parts:
            raise MutantUnnoticed(f"an assertion of the code itself failed, in {last}") from error
    except asyncio.TimeoutError as error:
        raise MutantUnnoticed("the story hangs where it should assert") from error
    else:
        raise MutantUnnoticed("the story passes")


def expect_noticed_on(stores: Any, test: Callable[..., Any]) -> None:
    """As `expect_noticed`, of a test of the contract on stores, which are closed then."""

    async def body() -> None:
        try:
            await asyncio.wait_for(test(stores), 20)
        finally:
            with suppress(Exception):  # of the mutant
                await asyncio.wait_for(stores.close(), 3)

    expect_noticed(lambda: asyncio.run(body()))


def _there(owner: type, name: str) -> None:
    if name not in vars(owner):
        raise CannotMutate(f"{owner.__name__} has no method {name!r} of its own")
