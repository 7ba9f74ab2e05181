"""A password in a URL that is not escaped as it must be: it works or is refused, and never shows."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest

from ticketlock import ConfigurationError
from ticketlock.endpoints import EndpointConfig
from ticketlock.endpoints.registry import (
    create_event_database,
    create_lock_store,
    create_tracker_store,
    event_broker_maker,
)
from ticketlock.errors import TicketLockError

Make = Callable[[str], Any]


def broker(**keys: Any) -> Any:
    async def made() -> Any:
        maker = event_broker_maker(EndpointConfig(**keys), "event_broker")
        assert maker is not None
        found = maker()
        return await found if inspect.isawaitable(found) else found

    return asyncio.run(made())


#: Section -> (what makes it of a URL, the URL around the password).
PLACES: dict[str, tuple[Make, str]] = {
    "postgresql": (
        lambda u: create_tracker_store({"type": "sql", "url": u}),
        "postgresql://user:{}@host/db",
    ),
    "mysql": (
        lambda u: create_tracker_store({"type": "sql", "url": u}),
        "mysql://user:{}@host:3306/db",
    ),
    "a host": (
        lambda u: create_tracker_store({"type": "sql", "dialect": "postgresql", "url": u}),
        "user:{}@host",
    ),
    "a host and a port": (
        lambda u: create_tracker_store({"type": "sql", "dialect": "mysql", "host": u}),
        "user:{}@host:3306",
    ),
    "event service": (
        lambda u: create_event_database({"url": u}, "event_service")[1],
        "postgresql://user:{}@host/db",
    ),
    "sql broker": (lambda u: broker(type="sql", url=u), "postgresql://user:{}@host/db"),
    "sql broker, a host": (
        lambda u: broker(type="sql", dialect="postgresql", url=u),
        "user:{}@host:1",
    ),
    "redis": (
        lambda u: create_lock_store({"type": "concurrent_redis", "url": u}),
        "redis://user:{}@host/1",
    ),
    "redis, a host": (
        lambda u: create_lock_store({"type": "concurrent_redis", "host": u}),
        "user:{}@host",
    ),
    "redis store": (
        lambda u: create_tracker_store({"type": "redis", "url": u}),
        "rediss://:{}@host/1",
    ),
    "mongo": (
        lambda u: create_tracker_store({"type": "mongod", "url": u}),
        "mongodb://user:{}@host/db",
    ),
    "rabbit": (lambda u: broker(type="pika", url=u), "amqp://user:{}@host/vhost"),
    "rabbit, a host": (lambda u: broker(type="pika", url=u), "user:{}@host"),
    "kafka": (lambda u: broker(type="kafka", url=u), "user:{}@host:9092"),
    "dynamo": (
        lambda u: create_tracker_store(
            {"type": "dynamo", "endpoint_url": u, "region": "us-east-1"}
        ),
        "http://user:{}@host",
    ),
}
#: Signs that mean something in a URL, within a password.
SIGNS = [
    "@",
    "/",
    ":",
    "?",
    "#",
    "%",
    "[",
    "]",
    " ",
    "@x:",
    "@x/",
    "/x@",
    "1/",
    "?x@",
    "%zz@",
    "\\",
    *(f"@middle{sign}" for sign in ("/", "?", "#", "/x#", "1/")),
]


def shown(made: object) -> str:
    """All that an operator may come to see of it."""
    settings = getattr(made, "settings", None)
    addresses = [getattr(thing, "address", "") for thing in (made, settings)]
    return " ".join(map(str, [made, repr(made), repr(settings), *addresses]))


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("place", PLACES)
def test_no_part_of_a_password_shows(
    place: str, sign: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in an error, nor in an address, a repr or the log."""
    make, around = PLACES[place]
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    caplog.set_level(logging.DEBUG, "ticketlock")
    text = around.format(f"hidden{sign}secret")
    try:
        said = shown(make(text))
    except TicketLockError as error:
        said = f"{error} {error.__cause__!r}"
    said += caplog.text
    assert "hidden" not in said
    assert "secret" not in said
    assert "middle" not in said


@pytest.mark.parametrize("place", ["postgresql", "mysql", "event service", "sql broker"])
def test_the_error_says_how_to_write_it(place: str) -> None:
    make, around = PLACES[place]
    with pytest.raises(ConfigurationError, match="%40"):
        make(around.format("p@ss"))
    assert "host" in shown(make(around.format("p%40ss")))


@pytest.mark.parametrize("sign", ["@x/", "@x?", "@x#"])
@pytest.mark.parametrize("place", ["redis", "redis store", "mongo", "rabbit", "postgresql"])
def test_another_host_is_never_taken(place: str, sign: str) -> None:
    """A password that is not escaped ends the host too early; `x` would be asked for its name, and
    get a part of the password."""
    make, around = PLACES[place]
    with pytest.raises(ConfigurationError, match="%40"):
        make(around.format(f"p{sign}w"))


def test_an_at_sign_in_a_parameter() -> None:
    """Of a URL of Azure, whose password is escaped."""
    make, _ = PLACES["mongo"]
    make("mongodb://me:secret%40%2F@host:10255/?ssl=false&appName=@me@")


@pytest.mark.parametrize("place", ["redis", "redis store", "mongo", "rabbit"])
def test_an_empty_url(place: str) -> None:
    """A variable that is set to nothing is no default."""
    make, _ = PLACES[place]
    with pytest.raises(ConfigurationError, match=r"url: is (empty|missing)"):
        make("")
