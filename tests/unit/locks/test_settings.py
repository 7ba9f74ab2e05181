"""Settings of the lock stores: what is accepted, and errors that name key, value and way out."""

from __future__ import annotations

from typing import Any

import pytest

from ticketlock import (
    ConcurrentRedisLockStore,
    ConfigurationError,
    EndpointConfig,
    InMemoryLockStore,
    LockStore,
    RedisLockStore,
    TicketLock,
)

STORES = [ConcurrentRedisLockStore, RedisLockStore]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"host": "localhost", "port": 6379, "db": 1, "use_ssl": False}),
        ({"url": "example"}, {"host": "example"}),
        ({"host": "example:7000"}, {"host": "example", "port": 7000}),
        ({"url": "redis://u:p%40ss@h:7/3"}, {"host": "h", "port": 7, "db": 3, "password": "p@ss"}),
        ({"url": "rediss://h"}, {"use_ssl": True, "db": 1}),
        ({"host": "redis://h:7", "port": 8}, {"host": "h", "port": 8}),
        ({"port": "7", "db": "3", "socket_timeout": "2.5"}, {"port": 7, "db": 3}),
        ({"url": "redis://h?socket_timeout=3"}, {"socket_timeout": 3}),
        ({"use_ssl": "false"}, {"use_ssl": False}),
        ({"use_ssl": "True"}, {"use_ssl": True}),
        ({"password": 12345}, {"password": "12345"}),
        ({"key_prefix": "äö1"}, {"key_prefix": "äö1"}),
        ({"key_prefix": ""}, {"key_prefix": None}),
        (
            {"deployment_mode": "Sentinel", "endpoints": ["a:1", "b:2"]},
            {"deployment_mode": "sentinel", "endpoints": (("a", 1), ("b", 2))},
        ),
    ],
)
def test_accepted(store: type[Any], keys: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same keys mean the same as keywords and in the documented drop-in constructor."""
    for made in (store(**keys), store(endpoint_config=EndpointConfig(**keys))):
        for key, value in expected.items():
            assert getattr(made.settings, key) == value


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"url": "a", "host": "b"}, "url: and host are the same setting"),
        ({"prot": 1}, "prot: is not a setting here; did you mean port?"),
        ({"lock_liftime": 9}, "lock_liftime: is not a setting here; known keys: url, host"),
        (
            {"prot": 1, "hots": "h"},
            "port? hots: is not a setting here; did you mean host?",
        ),
        ({"port": "many"}, "port: 'many' is not a number"),
        ({"port": 70000}, "port: 70000 is not a number of at most 65535"),
        ({"port": True}, "port: True"),
        ({"db": 1.5}, "db: 1.5 is not a whole number"),
        ({"db": -1}, "db: -1"),
        ({"use_ssl": "maybe"}, "use_ssl: 'maybe' is not true or false"),
        ({"key_prefix": "a_b"}, "key_prefix: 'a_b' is not alphanumeric"),
        ({"username": "u"}, "password: is missing"),
        ({"deployment_mode": "weird"}, "one of standard, cluster, sentinel"),
        ({"deployment_mode": "sentinel"}, "endpoints: is missing"),
        ({"endpoints": ["nocolon"]}, "'nocolon' is not host:port"),
        ({"endpoints": 3}, "endpoints: 3 is not a list of texts"),
        ({"socket_timeout": 0}, "socket_timeout: 0"),
        ({"password": ["x-s3cret"]}, "password: the value is not text"),
        ({"url": "http://h"}, "not a Redis URL"),
        ({"url": "http://u:x-s3cret@h"}, "not a Redis URL"),
        ({"url": "redis://:x-s3cret/more@h"}, "url: has an @ after its host"),
        ({"url": "redisx://u:p@x-s3cret@h"}, "not a Redis URL"),
        ({"host": "default:x-s3cret@h"}, "'***@h' is not host:port"),
        ({"endpoints": ["u:x-s3cret@h:1"]}, "'***@h:1' is not host:port"),
        ({"url": "redis://h?foo=bar"}, "foo is not supported in the URL"),
    ],
)
def test_refused(store: type[Any], keys: dict[str, Any], said: str) -> None:
    """The error names the section, the key and the value, but never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        store(**keys)
    text = str(caught.value)
    assert text.startswith("lock_store: ")
    assert said in text
    assert "x-s3cret" not in text


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (None, InMemoryLockStore),
        (EndpointConfig(), InMemoryLockStore),
        ({"type": "IN_MEMORY"}, InMemoryLockStore),
        ({"type": "Redis", "url": "h"}, RedisLockStore),
        ({"type": "concurrent_redis"}, ConcurrentRedisLockStore),
        (
            {"type": "ticketlock.locks.concurrent.store.ConcurrentRedisLockStore", "host": "h"},
            ConcurrentRedisLockStore,
        ),
        ({"type": "ticketlock.ConcurrentRedisLockStore"}, ConcurrentRedisLockStore),
        ({"type": "ticketlock.rasa.ConcurrentRedisLockStore"}, ConcurrentRedisLockStore),
        (
            {"type": "rasa.core.concurrent_lock_store.ConcurrentRedisLockStore"},
            ConcurrentRedisLockStore,
        ),
        (
            {"type": "rasa_plus.components.concurrent_lock_store.ConcurrentRedisLockStore"},
            ConcurrentRedisLockStore,
        ),
    ],
)
def test_types(section: Any, expected: type[LockStore]) -> None:
    """`type` in any case, as a short name or as a module path, documented ones included."""
    assert type(LockStore.create(section)) is expected


def test_a_store_passes_through() -> None:
    """create() gives a store back as it is."""
    store = InMemoryLockStore()
    assert LockStore.create(store) is store


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("reddis", "neither a known type nor the path of a class"),
        ("no.such.module.Class", "No module named 'no': commands look for it in the folder"),
        ("ticketlock.locks.tickets.Nope", "has no class Nope"),
        ("ticketlock.locks.tickets.Ticket", "not a subclass"),
    ],
)
def test_unresolvable_types_are_errors(kind: str, said: str) -> None:
    """Never a silent in-memory fallback."""
    with pytest.raises(ConfigurationError) as caught:
        LockStore.create(EndpointConfig(type=kind))
    assert said in str(caught.value)


class Custom(LockStore):
    """A custom store whose constructor is the documented one and does not call ours."""

    def __init__(self, endpoint_config: Any) -> None:
        self.seen = endpoint_config

    def get_lock(self, conversation_id: str) -> TicketLock | None:
        return None


def test_a_custom_store_gets_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """By keyword `endpoint_config`, with its keys; it works without calling our constructor."""
    import sys
    import types

    module = types.ModuleType("custom_locks")
    module.Custom = Custom  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "custom_locks", module)
    store = LockStore.create(EndpointConfig(type="custom_locks.Custom", url="u", mine=3))
    assert isinstance(store, Custom)
    assert store.seen.url == "u"
    assert store.seen.kwargs == {"mine": 3}
    assert store.lock_lifetime == 60
    assert "mine" in repr(store.seen)


@pytest.mark.parametrize(("text", "seconds"), [("", 60), ("0", 60), ("2.5", 2.5), ("120", 120)])
def test_lifetime_variable(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    """TICKET_LOCK_LIFETIME is read when a store is made."""
    monkeypatch.setenv("TICKET_LOCK_LIFETIME", text)
    assert InMemoryLockStore().lock_lifetime == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_bad_lifetime_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A bad value is an error that names the variable."""
    monkeypatch.setenv("TICKET_LOCK_LIFETIME", text)
    with pytest.raises(ConfigurationError, match="TICKET_LOCK_LIFETIME"):
        InMemoryLockStore()


@pytest.mark.parametrize("lifetime", [0, -1, float("nan")])
def test_bad_lifetime(lifetime: float) -> None:
    """A lifetime is above 0."""
    with pytest.raises(ValueError, match="lock_lifetime"):
        InMemoryLockStore().lock("c", lock_lifetime=lifetime)


@pytest.mark.parametrize("store", STORES)
def test_a_url_that_is_not_named(store: type[Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"str is not a section: give a mapping.*url="
    ) as caught:
        store("redis://:x-s3cret@h/1")
    assert "x-s3cret" not in str(caught.value)


def test_secrets_do_not_show() -> None:
    """Neither the store's settings nor the section show a password."""
    store = ConcurrentRedisLockStore(url="redis://u:hidden@h/1")
    config = EndpointConfig(password="hidden")
    assert "hidden" not in repr(store.settings) + repr(config) + repr(store)


@pytest.mark.parametrize("key", ["lease", "waiter_ttl"])
def test_keys_outlive_what_they_say(key: str) -> None:
    """A lease longer than its key lives would end with the key, and grant a second holder."""
    with pytest.raises(ConfigurationError, match=f"{key}: of 61 s is longer than idle_expiry"):
        ConcurrentRedisLockStore(**{key: 61, "idle_expiry": 60})
    ConcurrentRedisLockStore(**{key: 60, "idle_expiry": 60})
