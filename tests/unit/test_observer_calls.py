"""Observers are told by name: each name, and what is passed, is as `Observer` declares it."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from ticketlock import Observer
from ticketlock.observers import HOOKS, OF_TURNS, Observers, hook

ROOT = Path(__file__).parents[2] / "ticketlock"


def _calls() -> Iterator[tuple[str, str, int | None]]:
    """File and line, method, and how many arguments it is called with; None: not called here."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            told = ast.unparse(node.func.value).endswith("observers")
            if told and node.func.attr in ("notify", "ask", "has"):
                name = node.args[0]
                assert isinstance(name, ast.Constant), ast.unparse(node)
                given = None if node.func.attr == "has" else len(node.args) - 1
                yield f"{path.name}:{node.lineno}", str(name.value), given


@pytest.mark.skipif(not ROOT.is_dir(), reason="the sources are removed")
def test_each_call_is_one_that_the_class_declares() -> None:
    found = list(_calls())
    for where, name, given in found:
        method = getattr(Observer, name)
        assert method is HOOKS[name], (where, name)
        if given is not None:
            inspect.signature(method).bind(None, *range(given))
    assert {name for _, name, _ in found} >= {"on_turn_lost", "on_published", "on_handled", "mark"}
    assert {*OF_TURNS} <= {*HOOKS}


def test_a_method_that_is_not_overridden_is_not_called() -> None:
    """Also where a class between declares nothing, or hands on."""

    class Base:
        @hook
        def on_a(self) -> None:
            raise AssertionError("called")

        @hook
        def on_b(self) -> str | None:
            raise AssertionError("called")

    class Middle(Base):
        def on_b(self) -> str | None:
            return None

    class Last(Middle):
        pass

    observers = Observers()
    observers.add(Last())
    observers.notify("on_a")
    assert not observers.has("on_a")
    assert observers.has("on_b")
    assert observers.ask("on_b") is None


def test_any_object_with_the_methods_is_an_observer() -> None:
    """Of another class, or one whose method is a wrapped one of `Observer`."""
    seen: list[str] = []

    class Other:
        def on_turn(self, grant: object) -> None:
            seen.append("other")

    class Wrapped(Observer):
        @functools.wraps(Observer.on_turn)
        def on_turn(self, grant: object) -> None:
            seen.append("wrapped")

    observers = Observers()
    observers.add(Other())  # type: ignore[arg-type]  # of a program without types
    observers.add(Wrapped())
    observers.notify("on_turn", None)
    assert seen == ["other", "wrapped"]
    assert observers.of_turns
