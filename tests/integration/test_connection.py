"""What users see when Redis is not what the settings say: a clear error, in time."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import servers
import trustme
from conftest import until

from ticketlock import ConcurrentRedisLockStore, LockStore, LockStoreConnectionError, RedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis, free_port, server_binary

Run = Callable[..., None]
STORES = [ConcurrentRedisLockStore, RedisLockStore]


def refused(run: Run, make: Callable[[], LockStore], within: float = 8.0) -> str:
    """The text of the error that using the store gives, before its socket_timeout of 10 s."""
    texts: list[str] = []

    async def body() -> None:
        async with make() as store:
            start = time.monotonic()
            with pytest.raises(LockStoreConnectionError) as caught:
                async with store.lock("c"):
                    pytest.fail("entered")
            assert time.monotonic() - start < within
            texts.append(str(caught.value))

    run(body())
    return texts[0]


@pytest.mark.parametrize("store", STORES)
def test_nothing_listens(run: Run, store: type[LockStore]) -> None:
    """A wrong port is named, at once."""
    port = free_port()
    text = refused(run, lambda: store(host="127.0.0.1", port=port))
    assert f"127.0.0.1:{port}" in text
    assert "check host and port" in text


@pytest.mark.parametrize("store", STORES)
def test_no_such_host(run: Run, store: type[LockStore]) -> None:
    """A host that does not exist is named."""
    text = refused(run, lambda: store(host="no-such-host.invalid", socket_timeout=5), 6)
    assert "no-such-host.invalid:6379" in text
    assert "host" in text


@pytest.mark.parametrize("store", STORES)
def test_wrong_password(run: Run, store: type[LockStore]) -> None:
    """A refused login says so, without the password and without retrying for seconds."""
    with EmbeddedRedis(["--requirepass", "right-one"]) as server:
        text = refused(
            run, lambda: store(host="127.0.0.1", port=server.port, password="wr0ng-s3cret")
        )
        assert f"127.0.0.1:{server.port}" in text
        assert "check username and password" in text
        assert "wr0ng-s3cret" not in text
        text = refused(run, lambda: store(host="127.0.0.1", port=server.port))
        assert "password" in text
        url = f"redis://:wr0ng-s3cret@127.0.0.1:{server.port}/1"
        assert "wr0ng-s3cret" not in refused(run, lambda: store(url=url))
        assert "wr0ng-s3cret" not in repr(store(url=url).settings)  # type: ignore[attr-defined]

        async def right() -> None:
            url = f"redis://:right-one@127.0.0.1:{server.port}/1"
            async with store(url=url) as good, good.lock("c"):
                pass

        run(right())


@pytest.mark.parametrize("store", STORES)
async def test_a_password_that_is_not_needed(
    redis_server: EmbeddedRedis, store: type[LockStore]
) -> None:
    """It is accepted, whichever login the version of redis-py sends."""
    async with store(host="127.0.0.1", port=redis_server.port, password="x") as open_store:
        async with open_store.lock("unneeded") as grant:
            grant.ensure_held()


@pytest.mark.parametrize("store", STORES)
def test_no_such_database(run: Run, redis_server: EmbeddedRedis, store: type[LockStore]) -> None:
    """A database number that the server has not."""
    text = refused(run, lambda: store(host="127.0.0.1", port=redis_server.port, db=999))
    assert "check db" in text


async def test_a_server_too_old() -> None:
    """A server without HELLO, as Redis 5 answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with ConcurrentRedisLockStore(host="127.0.0.1", port=port) as store:
        with pytest.raises(LockStoreConnectionError, match=r"Redis 6\.2 or newer"):
            async with store.lock("c"):
                pytest.fail("entered")
    server.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("store", STORES)
def test_a_replica_is_refused(
    run: Run, redis_server: EmbeddedRedis, store: type[LockStore]
) -> None:
    """A read-only replica is told apart from a master."""
    with EmbeddedRedis(["--replicaof", "127.0.0.1", str(redis_server.port)]) as replica:
        text = refused(run, lambda: store(host="127.0.0.1", port=replica.port))
        assert "read-only replica" in text


def test_wrong_types_of_connection(run: Run, redis_server: EmbeddedRedis) -> None:
    """TLS towards a server that does not speak it."""
    text = refused(
        run,
        lambda: ConcurrentRedisLockStore(
            host="127.0.0.1", port=redis_server.port, use_ssl=True, socket_timeout=2
        ),
        3,
    )
    assert "use_ssl" in text or "no answer within 2 s" in text


class TlsServer:
    """A Redis with TLS that wants client certificates, and the files to talk to it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = self._write(folder / "ca.pem", authority.cert_pem)
        self.other_ca = self._write(folder / "other.pem", trustme.CA().cert_pem)
        own = authority.issue_cert("localhost", "127.0.0.1")
        client = authority.issue_cert("client.example")
        self.certificate = self._write(folder / "client.pem", client.cert_chain_pems[0])
        self.key = self._write(folder / "client.key", client.private_key_pem)
        options = {
            "--port": "0",
            "--tls-cert-file": self._write(folder / "server.pem", own.cert_chain_pems[0]),
            "--tls-key-file": self._write(folder / "server.key", own.private_key_pem),
            "--tls-ca-cert-file": self.ca,
            "--tls-auth-clients": "yes",
        }
        self.port = free_port()
        words = [word for option in options.items() for word in option]
        command = [server_binary(), *words, "--tls-port", str(self.port), "--save", ""]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder
        )

    @staticmethod
    def _write(path: Path, blob: Any) -> str:
        blob.write_to_path(path)
        return str(path)

    def options(self, **changes: object) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "use_ssl": True,
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
            "socket_timeout": 3,
            **changes,
        }


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    server = TlsServer(tmp_path_factory.mktemp("tls"))
    end = time.monotonic() + 5
    while time.monotonic() < end and server.process.poll() is None:
        try:
            redis.Redis(host="127.0.0.1", port=server.port, socket_timeout=1).ping()
        except redis.exceptions.ConnectionError as error:
            if "refused" not in str(error):
                break  # it listens, and does not like our lack of TLS
        time.sleep(0.02)
    if server.process.poll() is not None:
        servers.missing("a redis-server with TLS", "apt-get install redis-server")
    yield server
    server.process.terminate()
    server.process.wait(10)
    assert server.process.stdout is not None
    server.process.stdout.close()


@pytest.mark.parametrize("store", STORES)
async def test_tls(tls_server: TlsServer, store: type[LockStore]) -> None:
    """TLS with a client certificate works, heartbeat included."""
    lease = {"lease": 2} if store is ConcurrentRedisLockStore else {}
    async with store(**tls_server.options(), **lease) as good:
        async with good.lock("c", wait_timeout=5) as grant:
            await asyncio.sleep(2.2 if lease else 0)
            grant.ensure_held()


def test_tls_with_the_wrong_authority(run: Run, tls_server: TlsServer) -> None:
    """A certificate of another authority is refused, with the key to change."""
    options = tls_server.options(ssl_ca_certs=tls_server.other_ca)
    text = refused(run, lambda: ConcurrentRedisLockStore(**options))
    assert "ssl_ca_certs" in text


def test_tls_without_a_client_certificate(run: Run, tls_server: TlsServer) -> None:
    """A server that wants a client certificate says so."""
    options = tls_server.options(ssl_certfile=None, ssl_keyfile=None)
    text = refused(run, lambda: ConcurrentRedisLockStore(**options))
    assert "ssl_certfile" in text


def test_no_tls_towards_a_tls_port(run: Run, tls_server: TlsServer) -> None:
    """A server that expects TLS closes; the error names the switch."""
    options = {"host": "127.0.0.1", "port": tls_server.port, "socket_timeout": 2}
    assert "use_ssl" in refused(run, lambda: ConcurrentRedisLockStore(**options))


def test_unix_socket(run: Run, tmp_path: Path) -> None:
    """A Unix socket works, as a key and as a URL."""
    path = tmp_path / "redis.sock"
    with EmbeddedRedis(["--unixsocket", str(path)]):

        async def body() -> None:
            async with ConcurrentRedisLockStore(unix_socket_path=str(path), lease=2) as store:
                async with store.lock("c") as grant:
                    await asyncio.sleep(2.2)
                    grant.ensure_held()
            async with ConcurrentRedisLockStore(url=f"unix://{path}?db=1") as store:
                async with store.lock("c"):
                    pass

        run(body())


def test_an_ipv6_address(run: Run) -> None:
    """An IPv6 address with a port, and one without."""
    with EmbeddedRedis(["--bind", "127.0.0.1", "::1"]) as server:

        async def body() -> None:
            for options in ({"host": f"[::1]:{server.port}"}, {"host": "::1", "port": server.port}):
                async with ConcurrentRedisLockStore(**options) as store, store.lock("c"):
                    pass

        run(body())


def test_a_credential_provider(run: Run) -> None:
    """Credentials may come from an object that is asked at each connect."""
    asked = []

    class Provider(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            asked.append(1)
            return ("pw",)

    with EmbeddedRedis(["--requirepass", "pw"]) as server:

        async def body() -> None:
            options = {"port": server.port, "credential_provider": Provider()}
            async with ConcurrentRedisLockStore(host="127.0.0.1", **options) as store:
                async with store.lock("c"):
                    pass

        run(body())
    assert asked


async def test_a_master_without_its_replicas_is_asked_again(own_redis: EmbeddedRedis) -> None:
    """`min-replicas-to-write`: a master that was cut off refuses, and its successor does not."""
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as client:
        async with ConcurrentRedisLockStore(url=own_redis.url) as store:
            async with store.lock("anna") as grant:
                client.config_set("min-replicas-to-write", 1)
                waiting = asyncio.create_task(store.lock("emil").acquire())

                def refused() -> bool:
                    return "errorstat_NOREPLICAS" in client.info("errorstats")

                await until(refused, "it refuses to write")
                client.config_set("min-replicas-to-write", 0)
                await store._turn_queue.release(await asyncio.wait_for(waiting, 5))
            assert grant.reason is None
