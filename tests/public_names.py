"""The public names: what a caller, a script, a file of settings or a client can depend on.

`python tests/public_names.py` adds new ones to public_names.txt, the list that
`unit/test_public_names.py` holds them against. It takes none away.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.routing import Route

from ticketlock import Conversations, InMemoryLockStore, rasa
from ticketlock.cli import _parser
from ticketlock.cli.config.schema import CHANNELS, KEYS
from ticketlock.endpoints.registry import (
    EVENT_BROKERS,
    LOCK_STORES,
    TRACKER_STORES,
    create_tracker_store,
)
from ticketlock.server import Settings, create_app
from ticketlock.server.openapi import document

LIST = Path(__file__).with_suffix(".txt")
COMMAND = f"python tests/{Path(__file__).name}"

#: What `__all__` of these has, and what it gives out or the documents import from elsewhere.
MODULES = (
    "ticketlock", "ticketlock.stores", "ticketlock.brokers", "ticketlock.server",
    "ticketlock.telemetry", "ticketlock.checker",
)  # fmt: skip
OTHERS = (
    "ticketlock.locks.lock:Lock", "ticketlock.locks.lock:OptionalLock",
    "ticketlock.locks.sync:SyncGrant", "ticketlock.locks.sync:SyncLock",
    "ticketlock.locks.store:SyncLockStore", "ticketlock.locks.sync:SyncOptionalLock",
    "ticketlock.conversations:SyncConversations", "ticketlock.conversations:SyncTurn",
    "ticketlock.publishing.export.state:StateFile",
)  # fmt: skip
OBSERVERS = (
    "ticketlock.server.access_log:AccessLog", "ticketlock.telemetry.otel:OpenTelemetry",
    "ticketlock.telemetry.prometheus:PrometheusMetrics",
)  # fmt: skip
#: What our modules say to each other through classes that callers get, and do not make.
INNER = {
    "Grant": "__init__ ask_to_stop bind expires extend leave left lose member observers on_stop overdue"
    " request settle shields supersede tell_lost unbind",
    "Turn": "__init__ begin end lock speaker",
    "SyncGrant": "__init__ grant",
    **dict.fromkeys(("Call", "Verdict", "Violation"), "__init__"),
    **dict.fromkeys(
        ("Lock", "OptionalLock"),
        "__init__ begin begun end forget give_up grant note occupy over spent take waiter who",
    ),
    "ConcurrentRedisLockStore": "engine running shared_portal",
    **dict.fromkeys(
        ("LockStore", "InMemoryLockStore", "RedisLockStore", "Conversations"), "shared_portal"
    ),
    **dict.fromkeys(("SyncLock", "SyncLockStore"), "__init__"),
    "SyncConversations": "__init__ portal",
    **dict.fromkeys(("SyncOptionalLock", "SyncTurn"), "__init__"),
}


def collect() -> set[str]:
    """The public names of this version."""
    return {*_python(), *_cli(_parser(), "cli ticketlock"), *_keys(), *_http()}


def listed() -> set[str]:
    """The names of the list."""
    return {line for line in LIST.read_text().splitlines() if line and not line.startswith("#")}


def problems(known: set[str], found: set[str]) -> list[str]:
    """What an author must do, so that the names found are those known."""
    said = []
    if gone := sorted(known - found):
        said.append(
            f"public names are gone or changed:\n  {_lines(gone)}\n"
            "Callers depend on them. Keep each for one version, with a DeprecationWarning that "
            "names what to use, and tell of it in CHANGELOG.md; the version after that may remove "
            f"it, takes its line out of tests/{LIST.name}, and says so under *Upgrade*."
        )
    new = sorted(found - known)
    if forced := [name for name in new if _call(name) in known and "=" not in name]:
        said.append(
            f"calls that are public need more than before:\n  {_lines(forced)}\n"
            "Give each new parameter a default, else the callers of the version before fail."
        )
    if new:
        said.append(f"new public names:\n  {_lines(new)}\nIf they are meant to stay: {COMMAND}")
    return said


def _call(name: str) -> str | None:
    """The function, or the request, that a parameter is of; None for another name."""
    call, sign, _ = name.partition("(" if name.endswith(")") else " body ")
    return call if sign else None


def _lines(names: Iterable[str]) -> str:
    return "\n  ".join(names)


# -- Python -------------------------------------------------------------------------------------


def _python() -> Iterator[str]:
    for module in MODULES:
        for name in import_module(module).__all__:
            found = getattr(import_module(module), name)
            if module in (
                "ticketlock.stores",
                "ticketlock.brokers",
                "ticketlock.telemetry",
            ):  # what they do is below
                yield f"python {module}.{name}"
            else:
                yield from _object(f"python {module}.{name}", found)
    # Rasa itself is not here to import them.
    yield from (f"python ticketlock.rasa.{name}" for name in rasa.__all__)
    for place in OTHERS:
        module, _, name = place.partition(":")
        found = getattr(import_module(module), name)
        yield from _object(f"python {module}.{name}", found)
    stores = (*LOCK_STORES.values(), *TRACKER_STORES.values())
    for place in (*stores, *EVENT_BROKERS.values(), *OBSERVERS):
        module, _, name = place.partition(":")  # what they do is their interface's
        yield f"python {module}.{name}"
        yield from _parameters(f"python {module}.{name}", getattr(import_module(module), name))


def _object(path: str, found: Any) -> Iterator[str]:
    yield path
    if inspect.isfunction(found):
        yield from _parameters(path, found)
    elif inspect.isclass(found):
        names = {name for kind in _ours(found) for name in _members(kind)}
        names -= set(INNER.get(found.__name__, "").split())
        if "__init__" in names:
            yield from _parameters(path, found)
        for name in names - {"__init__"}:
            member = inspect.getattr_static(found, name, None)
            yield f"{path}.{name}"
            if isinstance(member, (classmethod, staticmethod)) or inspect.isfunction(member):
                yield from _parameters(f"{path}.{name}", getattr(found, name))


def _ours(found: type) -> list[type]:
    return [kind for kind in found.__mro__ if kind.__module__.startswith("ticketlock")]


def _members(kind: type) -> Iterator[str]:
    for name in (*vars(kind), *inspect.get_annotations(kind)):
        if name == "__init__" or not name.startswith("_"):
            yield name


def _parameters(path: str, function: Any) -> Iterator[str]:
    """Each as `(place name=)`; the place where it may be given by that, `=` where it need not."""
    parameters = inspect.signature(function).parameters.values()
    for place, one in enumerate(each for each in parameters if each.name not in ("self", "cls")):
        given = "" if one.default is one.empty else "="
        if one.kind is one.VAR_KEYWORD:
            yield f"{path}(**=)"
        elif one.kind is one.VAR_POSITIONAL:
            yield f"{path}(*=)"
        elif one.kind is one.KEYWORD_ONLY:
            yield f"{path}({one.name}{given})"
        else:
            yield f"{path}({place} {one.name}{given})"


# -- commands, settings, HTTP -------------------------------------------------------------------


def _cli(parser: argparse.ArgumentParser, path: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{path} {name}"
                yield from _cli(command, f"{path} {name}")
        elif isinstance(action, argparse._HelpAction):
            continue
        elif action.option_strings:
            yield from (f"{path} {option}" for option in action.option_strings)
        else:
            yield f"{path} {action.metavar or action.dest}"


def _keys() -> Iterator[str]:
    for channel, declarations in CHANNELS.items():
        yield from (f"endpoints channels: {channel}: {name}" for name in declarations)
    for section, types in KEYS.items():
        for kind, keys in types.items():
            yield f"endpoints {section}: {kind}"
            for name, declared in keys.items():
                if not declared.key.python_only:
                    yield f"endpoints {section}: {kind}: {name}"


def _http() -> Iterator[str]:
    described = document(Settings())
    for path, methods in described["paths"].items():
        for method, what in methods.items():
            if method == "parameters":
                continue
            call = f"http {method.upper()} {path}"
            yield call
            yield from (f"{call} {one['in']} {one['name']}" for one in what.get("parameters", ()))
            content = what.get("requestBody", {}).get("content", {})
            for body in content.values():
                schema = body["schema"]
                for key in schema.get("properties", ()):
                    yield f"{call} body {key}{'' if key in schema['required'] else '='}"
    for name, schema in described["components"]["schemas"].items():
        yield from (f"http {name} {key}" for key in schema["properties"])
    app = create_app(Conversations(InMemoryLockStore(), create_tracker_store(None)))
    for route in app.routes:
        if isinstance(route, Route):  # all of them, also those that are not described
            path = route.path.replace(":conversation}", "}")
            yield from (
                f"http {method} {path}" for method in route.methods or () if method != "HEAD"
            )


if __name__ == "__main__":
    names = sorted(listed() | collect()) if LIST.exists() else sorted(collect())
    head = f"# The public names of ticketlock; `{COMMAND}` adds new ones.\n"
    LIST.write_text(head + "".join(f"{name}\n" for name in names))
