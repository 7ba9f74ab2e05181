"""The keys of the Redis, Mongo and Dynamo tracker stores, and what their errors say."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from typing import Any

import pytest
from ticketlock.stores.dynamo import DynamoTrackerStore
from ticketlock.stores.mongo import MongoTrackerStore
from ticketlock.stores.redis import RedisTrackerStore

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import ConfigurationError, TrackerStoreConnectionError, TrackerStoreError
from ticketlock.redis.embedded import EmbeddedRedis, free_port

SECRET = "hunter2"

#: A user who may not run scripts.
RIGHTS = f"bot on >{SECRET} ~* +@all -eval -evalsha"


def connect(
    section: dict[str, Any], kind: type[TrackerStoreError] = TrackerStoreConnectionError
) -> str:
    """Try to reach the server; the error that says why it did not work."""

    async def body() -> None:
        store = create_tracker_store(section)
        try:
            await store.retrieve("a")
        finally:
            await store.close()

    with pytest.raises(kind) as caught, warnings.catch_warnings():
        # pymongo's monitor may be connecting once more when the client is closed; it is
        # cancelled, and nobody closes that socket. Collected here, it is no other test's error.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            asyncio.run(body())
        finally:
            gc.collect()
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"type": "redis", "record_exp": 0}, "record_exp: 0 is not a number of at least"),
        ({"type": "redis", "record_exp": "soon"}, "record_exp: 'soon' is not a number"),
        ({"type": "redis", "key_prefix": "a_b"}, "key_prefix: 'a_b' is not alphanumeric"),
        ({"type": "redis", "url": "a", "host": "b"}, "the same setting"),
        ({"type": "redis", "use_ssl": "perhaps"}, "use_ssl: 'perhaps' is not true or false"),
        ({"type": "redis", "record_expiry": 5}, "did you mean record_exp"),
        ({"type": "mongod", "url": "a", "host": "b"}, "the same setting"),
        ({"type": "mongod", "username": "me"}, "password: is missing"),
        ({"type": "mongod", "url": f"mongodb://me:{SECRET}@x@host"}, "url: is not a MongoDB URL"),
        ({"type": "mongod", "url": f"mongodb://me:{SECRET}:a@host:b"}, "url: is not a MongoDB URL"),
        ({"type": "mongod", "collections": "x"}, "did you mean collection"),
        ({"type": "dynamo", "tablename": "x"}, "did you mean table_name"),
        ({"type": "dynamo", "max_pool_connections": 0}, "max_pool_connections: 0 is not"),
    ],
    ids=str,
)
def test_wrong_settings(section: dict[str, Any], words: str) -> None:
    """They are refused when the store is made, by file, section and key (T19, T24)."""
    with pytest.raises(ConfigurationError) as caught:
        create_tracker_store(section, where="endpoints.yml: tracker_store")
    assert str(caught.value).startswith("endpoints.yml: tracker_store: ")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_documented_defaults() -> None:
    redis = create_tracker_store({"type": "REDIS"})
    assert isinstance(redis, RedisTrackerStore)
    assert (redis.settings.host, redis.settings.port, redis.settings.db) == ("localhost", 6379, 0)
    assert redis.record_exp is None
    assert isinstance(create_tracker_store({"type": "Mongod"}), MongoTrackerStore)
    assert isinstance(create_tracker_store({"type": "dynamo"}), DynamoTrackerStore)
    documented = {"type": "redis", "url": "example", "port": "6380", "record_exp": 30.5}
    assert create_tracker_store(documented).record_exp == 30.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "driver", "extra"),
    [("mongod", "pymongo", "mongo"), ("dynamo", "boto3", "dynamo")],
)
def test_a_missing_driver(
    kind: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the command to type."""
    for name in list(sys.modules):
        if name.startswith(("ticketlock.stores.", driver)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(ConfigurationError, match=rf'pip install "ticketlock\[{extra}\]"'):
        create_tracker_store({"type": kind})


@pytest.mark.parametrize("kind", ["redis", "mongod", "dynamo"])
def test_nothing_listens(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    port = free_port()
    login = {"username": "me", "password": SECRET}
    section: dict[str, Any] = {
        "redis": {"port": port, **login},
        "mongod": {"url": f"mongodb://127.0.0.1:{port}", **login, "socket_timeout": 0.3},
        "dynamo": {"endpoint_url": f"http://127.0.0.1:{port}", "socket_timeout": 0.3},
    }[kind]
    said = connect({"type": kind, **section})
    assert f":{port}" in said
    assert "check" in said


def test_redis_refuses_the_login() -> None:
    with EmbeddedRedis(["--requirepass", "other"]) as server:
        said = connect({"type": "redis", "port": server.port, "password": SECRET})
        assert "refused the login: check username and password" in said
        assert "password" in connect({"type": "redis", "port": server.port})


def test_redis_names_the_rights_that_lack() -> None:
    with EmbeddedRedis(["--user", *RIGHTS.split()]) as server:
        login = {"username": "bot", "password": SECRET}
        said = connect({"type": "redis", "port": server.port, **login}, TrackerStoreError)
        assert "+evalsha" in said
        assert "tracker:*" in said
