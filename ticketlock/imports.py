"""Imports at first use, and the pip command for missing packages."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def late(
    package: str, places: Mapping[str, str], extras: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        places: name -> the module in the package that has it.
        extras: name -> the extra that it needs; if that is missing, the name raises
            ModuleNotFoundError with the pip command.
    """
    extra_of = extras or {}

    def __getattr__(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if name in extra_of:
            _require(f"{package}.{name}", extra_of[name])
        found = getattr(import_module(f".{places[name]}", package), name)
        setattr(sys.modules[package], name, found)
        return found

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return __getattr__, __dir__


def registry() -> ModuleType:
    """The registry, for the `create` of an interface.

    It is imported by name, because the registry imports all interfaces, so none of them may
    import it.
    """
    return import_module("ticketlock.endpoints.registry")


def schema() -> ModuleType:
    """The keys of all sections of an `endpoints.yml`, for errors about unknown keys."""
    return import_module("ticketlock.cli.config.schema")


def _require(name: str, extra: str) -> None:
    if modules := missing(extra):
        raise ModuleNotFoundError(f"{name} {needs({extra: modules})}", name=modules[0])


def raised_at(error: BaseException) -> str:
    """Where the import of a user's module has raised: file and line, in brackets; empty if not in one."""
    import traceback  # only where something went wrong

    machinery = (os.path.join(os.path.dirname(__file__), ""), importlib.__file__, "<frozen")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(machinery) and "site-packages" not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


#: Extra -> its modules that ticketlock imports.
MODULES = {
    "yaml": ("ruamel.yaml",),
    "cli": ("rich", "ruamel.yaml"),
    "sql": ("sqlalchemy",),
    "postgresql": ("sqlalchemy", "psycopg"),
    "mysql": ("sqlalchemy", "aiomysql"),
    "oracle": ("sqlalchemy", "oracledb"),
    "mongo": ("pymongo",),
    "dynamo": ("boto3",),
    "kafka": ("confluent_kafka",),
    "pika": ("pika",),
    "actions": ("h11",),
    "pictures": ("resvg_py",),
    "server": ("starlette", "uvicorn", "jwt", "ruamel.yaml"),
}
#: `type` of a section -> its extra; for `sql` it depends on the dialect.
_OF_TYPES = {
    "mongod": "mongo", "dynamo": "dynamo", "kafka": "kafka", "pika": "pika", "http": "server",
}  # fmt: skip
_OF_DIALECTS = {
    "postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql",
    "oracle": "oracle",
}  # fmt: skip


def extra_of(kind: str, keys: Mapping[str, Any]) -> str | None:
    """The extra that a section of this type needs; None: none."""
    if kind != "sql":
        return _OF_TYPES.get(kind)
    place = keys.get("url") or keys.get("host") or ""
    scheme, slashes, _ = str(place).partition("://")
    dialect = scheme if slashes else str(keys.get("dialect") or "sqlite")
    backend, _, driver = dialect.lower().partition("+")
    if driver in ("asyncpg", "asyncmy"):  # drivers that no extra has
        return "sql"
    return _OF_DIALECTS.get(backend, "sql")


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [name for name in MODULES[extra] if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of its package
        return False


def needs(found: Mapping[str, Iterable[str]]) -> str:
    """The end of an error about missing modules: their names and the pip command."""
    modules = sorted({name for names in found.values() for name in names})
    return f"needs {', '.join(modules)}: {pip_line(found)}"


def pip_line(extras: Iterable[str]) -> str:
    """The pip command for some extras."""
    return f'pip install "ticketlock[{",".join(sorted(set(extras)))}]"'
