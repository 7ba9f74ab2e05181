"""Public names are added by a command, and go by way of a DeprecationWarning."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

import pytest
from public_names import COMMAND, _cli, _object, collect, listed, problems

ROOT = Path(__file__).parents[2]
#: The modules that names are imported from; `ticketlock.__doc__` says so.
PLACES = (
    "ticketlock", "ticketlock.stores", "ticketlock.brokers", "ticketlock.events",
    "ticketlock.server", "ticketlock.telemetry", "ticketlock.rasa", "ticketlock.checker",
)  # fmt: skip
#: What needs an extra of its own has a module of its own.
EXTRAS = {
    "ticketlock.telemetry.otel": "OpenTelemetry",
    "ticketlock.telemetry.prometheus": "PrometheusMetrics",
}
#: Named in the documents for those who read or change the code.
INTERNAL = {"PostFailed", "ThreadedBroker", "Unsendable"}
#: Errors of commands: they are seen as texts.
COMMANDS = {"NothingToExport", "TransferError"}


def test_the_public_names_are_those_of_the_list() -> None:
    """Python, commands and options, keys of endpoints.yml, HTTP."""
    found = problems(listed(), collect())
    assert not found, "\n\n".join(found)


def test_each_kind_of_name_is_listed() -> None:
    """One that everybody uses, of each."""
    assert {
        "python ticketlock.ConcurrentRedisLockStore.lock(0 conversation_id)",
        "python ticketlock.Conversations.turn(wait_timeout=)",
        "python ticketlock.server.create_app(0 conversations)",
        "python ticketlock.Holder.fence",
        "cli ticketlock run --bot",
        "cli ticketlock break CONVERSATION",
        "endpoints lock_store: concurrent_redis: lease",
        "http POST /webhooks/rest/webhook body message",
        "http POST /webhooks/rest/webhook body message_id=",
        "http GET /live",
    } <= listed()


class Before:
    """A public class."""

    def take(self, name: str, *, soon: bool = False) -> None: ...


class After:
    """The same, changed."""

    def take(self, name: str, how: str, *, later: bool = False) -> None: ...


def test_a_change_says_what_to_do() -> None:
    """What is gone needs a warning first, what is needed a default, what is new the command."""
    for each in (Before, After):
        each.__module__ = "ticketlock.example"
    known, found = set(_object("c", Before)), set(_object("c", After))
    assert known == {"c", "c.take", "c.take(0 name)", "c.take(soon=)"}
    gone, forced, new = problems(known, found)
    assert "c.take(soon=)" in gone
    assert "DeprecationWarning" in gone
    assert "c.take(1 how)" in forced
    assert "default" in forced
    assert "c.take(later=)" in new
    assert COMMAND in new
    assert problems(known, known) == []


def test_options_of_commands_are_names() -> None:
    """Each spelling of an option, and what a command is given without one."""
    parser = argparse.ArgumentParser()
    command = parser.add_subparsers().add_parser("show")
    command.add_argument("what", metavar="WHAT")
    command.add_argument("-j", "--json", action="store_true")
    assert set(_cli(parser, "t")) == {"t show", "t show WHAT", "t show -j", "t show --json"}


def _found(path: str) -> Any:
    """What a name of the list stands for, properties as they are."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found: Any = import_module(module)
        except ImportError:
            continue
        for name in parts[length:]:
            look = inspect.getattr_static if inspect.isclass(found) else getattr
            found = look(found, name, None)  # None of a field without default
        return found
    raise AssertionError(path)


def test_everything_public_has_a_docstring() -> None:
    """Classes, functions, methods and properties; an overridden method has its base's."""
    names = {name.partition(" ")[2].partition("(")[0] for name in collect() if name[:3] == "pyt"}
    without = []
    for name in sorted(names):
        if name.startswith("ticketlock.rasa."):
            continue  # Rasa is not here
        found = _found(name)
        function = getattr(found, "__func__", found)  # of a classmethod, a staticmethod
        kind = inspect.isclass(found) and get_origin(found) is None  # an alias is no class
        if not (kind or inspect.isfunction(function) or isinstance(found, property)):
            continue  # a value, an attribute: their class's docstring has them
        owner, _, last = name.rpartition(".")
        said = inspect.getdoc(function) or inspect.getdoc(getattr(_found(owner), last, None))
        if not said:
            without.append(name)
    assert len(names) > 300
    assert without == []


def _documents() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from (path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".py"))


@pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")
def test_what_the_documents_name_is_imported_from_few_places() -> None:
    """Each class of ours that a document names is in `__all__` of one of them."""
    public = {name for place in PLACES for name in import_module(place).__all__}
    own = (
        "server",
        "demo",
        "stress",
        "cli",
        "event_service",
    )  # what these have is documented as theirs
    sources = [
        path.read_text()
        for path in (ROOT / "ticketlock").rglob("*.py")
        if path.relative_to(ROOT / "ticketlock").parts[0] not in own
    ]
    for folder in ("stores", "brokers"):
        sources += [path.read_text() for path in (ROOT / folder).rglob("*.py")]
    ours = set(re.findall(r"^class ([A-Z]\w+)", "\n".join(sources), re.MULTILINE))
    assert {"SQLTrackerStore", "Conversations", "KafkaEventBroker"} <= ours & public
    for path in _documents():
        text = path.read_text()
        named = set(
            re.findall(r"(?<![\w-])[A-Z]\w+(?![\w-])", " ".join(re.findall(r"`[^`\n]+`", text)))
        )
        assert named & ours <= public | INTERNAL | COMMANDS | {*EXTRAS.values()}, path
        for place in re.findall(r"^\s*(?:from|import) (ticketlock[\w.]*)", text, re.MULTILINE):
            assert place in (*PLACES, *EXTRAS), (path, place)
