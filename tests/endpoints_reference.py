"""The page of every key of `endpoints.yml`, made of their declarations.

`python tests/endpoints_reference.py` writes docs/reference/endpoints.md anew;
`unit/endpoints/test_reference.py` fails while the page says something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ticketlock.cli.config.schema import CHANNELS, CUSTOM, KEYS, MEANINGS
from ticketlock.endpoints.file import FOREIGN, FOREIGN_KEYS
from ticketlock.endpoints.registry import TYPES
from ticketlock.imports import extra_of, pip_line
from ticketlock.settings.keys import Declared

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "endpoints.md"
COMMAND = f"python tests/{Path(__file__).name}"

HEAD = """\
# Every key of endpoints.yml

Each section has a `type`, and the keys of that type. An unknown section, type or key is an error
that names the nearest known one. `${NAME}` is replaced by the environment variable, `${NAME:-default}`
has a default, `${NAME:?what to do}` refuses an empty value, `$${NAME}` is the text `${NAME}`. Where a
number, or true or false, is expected, text is accepted too: `5`, `true`, `false`, `yes`, `no`, `on`, `off`.

`ticketlock config check endpoints.yml` checks a file, and connects to every server that it names.
`ticketlock config schema` prints the JSON Schema of these keys, for editors. In Python the keys
of a type are the keyword arguments of its class.
"""

#: Section and type -> what it is, and from where it is imported.
CLASSES = {
    ("lock_store", "in_memory"): "`ticketlock.InMemoryLockStore`: turns within one process",
    ("lock_store", "concurrent_redis"): "`ticketlock.ConcurrentRedisLockStore`: for replicas",
    ("lock_store", "redis"): "`ticketlock.RedisLockStore`: Rasa's format; waiters poll",
    (
        "tracker_store",
        "in_memory",
    ): "`ticketlock.stores.InMemoryTrackerStore`: lost when the process ends",
    ("tracker_store", "sql"): "`ticketlock.stores.SQLTrackerStore`",
    ("tracker_store", "redis"): "`ticketlock.stores.RedisTrackerStore`",
    ("tracker_store", "mongod"): "`ticketlock.stores.MongoTrackerStore`",
    ("tracker_store", "dynamo"): "`ticketlock.stores.DynamoTrackerStore`",
    ("event_broker", "pika"): "`ticketlock.brokers.PikaEventBroker`: RabbitMQ",
    ("event_broker", "kafka"): "`ticketlock.brokers.KafkaEventBroker`",
    ("event_broker", "sql"): "`ticketlock.brokers.SQLEventBroker`",
    ("event_broker", "file"): "`ticketlock.brokers.FileEventBroker`",
    ("event_service", "sql"): "The database of `ticketlock events consume`",
    ("server", "http"): "`ticketlock.server.Settings`",
    ("action_endpoint", "http"): "The documented section, with the keys of its `url`",
    ("callback", "http"): "The documented channel, with the keys of its `url`",
}

#: Keys that say where it is come first.
FIRST = ("dialect", "url", "host", "port", "db")


def page() -> str:
    """The page as the declarations have it."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    for section, types in KEYS.items():
        meaning, default = MEANINGS[section], TYPES[section][1]
        yield f"## `{section}`\n"
        custom = ", or the module path of your own class" if section in CUSTOM else ""
        names = ", ".join(f"`{kind}`" for kind in types)
        yield f"{meaning[0].upper()}{meaning[1:]}. Its `type` is {names}{custom}. Default `{default}`.\n"
        for kind, keys in types.items():
            yield f"### `{section}`: `{kind}`\n"
            yield f"{CLASSES[section, kind]}. {_needs(kind)}\n"
            yield from _table(keys)
    yield "## `channels`\n"
    meaning = MEANINGS["channels"]
    yield f"{meaning[0].upper()}{meaning[1:]}. It has no `type`. {_needs('http')}\n"
    for name, keys in CHANNELS.items():
        yield f"### `channels`: `{name}`\n"
        yield f"`POST /webhooks/{name}/webhook`; [a channel](../guides/channels.md).\n"
        yield from _table(keys)
    yield "## Sections of a Rasa file that are not used\n"
    yield "`config check` names each of them. These sections are accepted and ignored:\n"
    yield "| section | instead |"
    yield "|---|---|"
    yield from (f"| `{name}` | {why} |" for name, why in FOREIGN.items())
    yield "\nAnd these keys of Rasa Pro:\n"
    yield "| section | key | instead |"
    yield "|---|---|---|"
    for section, foreign in FOREIGN_KEYS.items():
        yield from (f"| `{section}` | `{key}` | {why} |" for key, why in foreign.items())
    yield ""


def _table(keys: Mapping[str, Declared]) -> Iterator[str]:
    if keys:
        yield "| key | value | default | meaning |"
        yield "|---|---|---|---|"
        yield from map(_row, sorted(keys.values(), key=lambda one: one.name not in FIRST))
        yield ""


def _needs(kind: str) -> str:
    extra = extra_of(kind, {})
    if extra is None:
        return "Needs no extra."
    others = (
        " For other databases than SQLite: `postgresql`, `mysql`, `oracle`."
        if extra == "sql"
        else ""
    )
    return f"Needs `{pip_line([extra])}`.{others}"


def _row(declared: Declared) -> str:
    return f"| `{declared.name}` | {_value(declared)} | {_default(declared)} | {declared.key.meaning} |"


def _value(declared: Declared) -> str:
    key = declared.key
    if key.python_only:
        return "object, in Python only"
    if declared.kind == "choice":
        return ", ".join(f"`{option}`" for option in declared.options)
    words = {
        "text": "text", "integer": "whole number", "number": "number", "flag": "true or false",
        "texts": "list of texts, or one text", "mapping": "mapping",
    }[declared.kind]  # fmt: skip
    if key.low is not None and key.high is not None:
        return f"{words}, {_number(key.low)} to {_number(key.high)}"
    return words if key.low is None else f"{words}, at least {_number(key.low)}"


def _number(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _default(declared: Declared) -> str:
    default = declared.default
    if declared.key.shown is not None:
        return declared.key.shown
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (int, float)):
        return _number(default)
    return f"`{default if isinstance(default, str) else ', '.join(default)}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
